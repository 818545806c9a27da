"""Repairs of a raw table: a day read from Kafka again, and dead letters decoded again; each with a dry run."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k2_market.day_difference import DayDifference, difference
from k2_market.day_repair import DayFacts, Rewrite, retained
from k2_market.day_window import DayWindow
from k2_market.dead_letter_repair import Revival, dead_letters_of, kept_messages, revival
from k2_market.row_admission import OUTSIDE_WINDOW, awaited_day
from k2_resources.day_planning import of_other_days
from k2_resources.kafka_topics import KafkaTopics
from k2_resources.raw_rewrite import DEAD
from k2_resources.raw_view import RawView
from k2_resources.reread_messages import Decoder, RereadMessages


@dataclass
class DayRepair:
    """A day's repair from Kafka.

    Attributes:
        day: The trading day.
        topic: The feed's topic.
        topics: Says what of it is retained.
        reread: Reads it.
        found: The difference that was found last; the one that a commit acted on, once there was one.
    """

    day: date
    topic: str
    topics: KafkaTopics
    reread: RereadMessages
    found: DayDifference | None = None

    def look(self, view: RawView) -> DayDifference:
        """How the day differs from what Kafka has.

        Raises:
            LedgerError: The table's ledger can't be trusted.
            KafkaUnavailable: Kafka can't be asked.
        """
        ledger = view.ledger
        facts = DayFacts(
            day=self.day,
            rows=view.read_day(self.day),
            elsewhere=view.offsets_where(of_other_days(self.day)),
            ledger=ledger,
            retained=retained(self.topics.state(self.topic), ledger),
        )
        return difference(facts, self.reread.rows(facts.wanted))

    def decide(self, view: RawView) -> Rewrite | None:
        """What is to be written, if anything."""
        self.found = self.look(view)
        return self.found.rewrite if self.found.changes else None


@dataclass
class DeadLetterRepair:
    """The repair of the dead letters filed under a day, from the bytes that were kept of them."""

    day: date
    decoder: Decoder
    found: Revival | None = None

    def look(self, view: RawView) -> Revival:
        """What would become of the day's dead letters.

        Raises:
            LedgerError: The table's ledger can't be trusted.
            RegistryUnavailable: The schemas can't be asked for.
        """
        rows, covered = view.read_day(self.day), view.ledger.covered
        dead = dead_letters_of(rows)
        again = pa.concat_tables([view.schema.empty_table(), *map(self.decoder.rows, kept_messages(dead))])
        return revival(self.day, rows, self._same_offsets_elsewhere(view, dead), covered, again)

    def decide(self, view: RawView) -> Rewrite | None:
        """What is to be written, if anything."""
        self.found = self.look(view)
        return self.found.rewrite if self.found.changes else None

    def _same_offsets_elsewhere(self, view: RawView, dead: pa.Table) -> pa.Table:
        bounds: dict[str, Any] = pc.min_max(dead["kafka_offset"]).as_py()
        if bounds["min"] is None:
            return view.schema.empty_table()
        near = f"kafka_offset >= {bounds['min']} AND kafka_offset <= {bounds['max']}"
        return view.offsets_where(f"{of_other_days(self.day)} AND {near}")


def days_to_try_again(view: RawView, window: DayWindow) -> list[date]:
    """Find the trading days that dead letters are filed under whose own day had not come and has come since.

    Costs the plan of the table's files, since only those are opened that hold dead letters of a wrong day.
    """
    if view.table is None:
        return []
    scan = view.table.scan(row_filter=_OF_A_WRONG_DAY, selected_fields=("trade_date", "reject_reason"))
    found = scan.to_arrow().group_by(["trade_date", "reject_reason"]).aggregate([])
    awaited = ((row["trade_date"], awaited_day(row["reject_reason"])) for row in found.to_pylist())
    return sorted({filed for filed, day in awaited if day is not None and day in window})


_OF_A_WRONG_DAY = f"{DEAD} AND reject_reason LIKE '{OUTSIDE_WINDOW}%'"


def days_with_dead_letters(view: RawView) -> list[date]:
    """The trading days that dead letters are filed under."""
    if view.table is None:
        return []
    scan = view.table.scan(row_filter=DEAD, selected_fields=("trade_date",))
    return sorted(scan.to_arrow()["trade_date"].unique().to_pylist())
