"""Repairs a raw table: reads a day from Kafka again, or decodes dead letters again; each with a dry run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k2_market.feeds.day_window import DayWindow
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.messages.row_admission import OUTSIDE_WINDOW, awaited_day
from k2_market.plans.failed_runs import OffsetsAtFault
from k2_market.repair.day_difference import DayDifference, difference
from k2_market.repair.day_repair import DayFacts, Rewrite, retained
from k2_market.repair.dead_letter_repair import DeadLetterPlan, dead_letter_plan, kept_messages, tried_letters
from k2_resources.iceberg.scan_files import of_other_days
from k2_resources.kafka.topic_reader import OffsetsGone, TopicReader
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.reread_messages import Decoder, RereadMessages
from k2_resources.raw.rewrite import DEAD
from k2_resources.raw.view import RawView

Take = Callable[[pa.Table, RangeSet], object]
"""Takes rows, and the offsets that they account for."""

_log = get_logger("repair")


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
        """Tell how the day differs from what Kafka has.

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
        """Tell what is to be written, if anything."""
        self.found = self.look(view)
        return self.found.rewrite if self.found.changes else None


@dataclass
class DeadLetterRepair:
    """Repairs the dead letters filed under a day, from the bytes that were kept of them.

    Attributes:
        day: The day.
        decoder: Decodes them.
        only: The offsets of those that were set aside and are to be tried; None for all that were not set aside.
        found: What was found last.
    """

    day: date
    decoder: Decoder
    only: RangeSet | None = None
    found: DeadLetterPlan | None = None

    def look(self, view: RawView) -> DeadLetterPlan:
        """Tell what would become of the day's dead letters.

        Raises:
            LedgerError: The table's ledger can't be trusted.
            RegistryUnavailable: The schemas can't be asked for.
        """
        rows, ledger = view.read_day(self.day), view.ledger
        dead = tried_letters(rows, ledger, self.only)
        again = pa.concat_tables([view.schema.empty_table(), *map(self.decoder.rows, kept_messages(dead))])
        return dead_letter_plan(self.day, rows, self._same_offsets_elsewhere(view, dead), ledger.covered, again)

    def decide(self, view: RawView) -> Rewrite | None:
        """Tell what is to be written, if anything."""
        self.found = self.look(view)
        return self.found.rewrite if self.found.changes else None

    def _same_offsets_elsewhere(self, view: RawView, dead: pa.Table) -> pa.Table:
        bounds: dict[str, Any] = pc.min_max(dead["kafka_offset"]).as_py()
        if bounds["min"] is None:
            return view.schema.empty_table()
        near = f"kafka_offset >= {bounds['min']} AND kafka_offset <= {bounds['max']}"
        return view.offsets_where(f"{of_other_days(self.day)} AND {near}")


@dataclass(frozen=True)
class ReadAgain:
    """Tells what became of offsets that had been set aside unread.

    Attributes:
        rows: How many rows they are now.
        read: The offsets that could be read.
        unread: Why others could not, and which.
    """

    rows: int
    read: RangeSet
    unread: Mapping[str, RangeSet]


def read_again(reader: TopicReader, decoder: Decoder, unread: RangeSet, take: Take) -> ReadAgain:
    """Read offsets that had been set aside unread, one range after the other.

    Args:
        reader: Reads the topic.
        decoder: Decodes its messages.
        unread: The offsets.
        take: Is given rows and the offsets that they account for.
    """
    rows, read, still = 0, RangeSet(), dict[str, RangeSet]()
    for each in unread:
        left = RangeSet.of([each])
        _log.warning("reading offsets that were set aside", offsets=str(each))
        try:
            for batch in reader.carefully().read(left):
                made = decoder.rows(batch.messages)
                take(made, batch.covered)
                rows, read, left = rows + made.num_rows, read | batch.covered, left - batch.covered
        except (OffsetsAtFault, OffsetsGone) as error:
            still[str(error)] = still.get(str(error), RangeSet()) | left
    return ReadAgain(rows, read, still)


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
    """Return the trading days that dead letters are filed under."""
    if view.table is None:
        return []
    scan = view.table.scan(row_filter=DEAD, selected_fields=("trade_date",))
    return sorted(scan.to_arrow()["trade_date"].unique().to_pylist())
