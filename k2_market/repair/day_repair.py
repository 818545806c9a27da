"""Plans a day's repair: rows to keep, offsets to read from Kafka again, rows to write."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import pyarrow as pa

from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, offsets_of
from k2_market.ledger.topic_state import TopicState


@dataclass(frozen=True)
class DayFacts:
    """All that a day's repair depends on, beside what Kafka gives.

    Attributes:
        day: The trading day.
        rows: Its rows as the table has them.
        elsewhere: The offset columns of the rows of all other days.
        ledger: The table's ledger.
        retained: What Kafka can be asked for, as ``retained`` tells.
    """

    day: date
    rows: pa.Table
    elsewhere: pa.Table
    ledger: Ledger
    retained: RangeSet

    @cached_property
    def without_row(self) -> RangeSet:
        """Offsets of the ledger that no row has, if there are messages among them; nothing where all are holes."""
        found = self.ledger.covered - (offsets_of(self.rows) | offsets_of(self.elsewhere))
        return found if len(found) > self.ledger.holes else RangeSet()

    @cached_property
    def wanted(self) -> RangeSet:
        """Give the offsets to read from Kafka again: the day's own, and those that may be missing from it.

        What was set aside is not: whatever decodes it fails.
        """
        own = offsets_of(self.rows) & self.ledger.covered
        return ((own | self.without_row) & self.retained) - self.ledger.set_aside


@dataclass(frozen=True)
class Rewrite:
    """Describes what a repair writes, in one commit.

    Attributes:
        day: The trading day whose rows are replaced, all of them.
        rows: What there is to be afterwards of that day, and rows of other days to be added to theirs.
    """

    day: date
    rows: pa.Table

    @property
    def in_order(self) -> pa.Table:
        """The rows in Kafka's order."""
        return self.rows.sort_by([(column, "ascending") for column in OFFSET_COLUMNS])

    @property
    def days(self) -> frozenset[date]:
        """The trading days whose rows are not what they were."""
        return frozenset({self.day, *self.rows["trade_date"].unique().to_pylist()})


def retained(topic: TopicState | None, ledger: Ledger) -> RangeSet:
    """Tell what Kafka can be asked for again: what it retains, but for partitions whose log once lost its end.

    At an offset of such a partition there may be another message than there was.

    Args:
        topic: The topic's log now; None where there is no topic.
        ledger: Says what was lost.
    """
    if topic is None:
        return RangeSet()
    cut = {*ledger.truncated.spans, *topic.unreached(ledger.covered).spans}
    return RangeSet({key: spans for key, spans in topic.readable.spans.items() if key not in cut})


def decoded_offsets(rewrite: Rewrite) -> RangeSet:
    """Collect the offsets of the rows that are written and are no dead letters."""
    return offsets_of(rewrite.rows.filter(rewrite.rows["reject_reason"].is_null()))


def dead_letters_after(rewrite: Rewrite, elsewhere: pa.Table, ledger: Ledger) -> int:
    """Tell how many dead letters a table has once a rewrite is done.

    Args:
        rewrite: What is written.
        elsewhere: The offset columns of dead letters of all days but the one that is replaced.
        ledger: The table's ledger; other offsets than its own don't count.
    """
    written = rewrite.rows.filter(rewrite.rows["reject_reason"].is_valid())
    return len((offsets_of(written) | offsets_of(elsewhere)) & ledger.covered)
