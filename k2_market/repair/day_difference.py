"""Compares a trading day's raw rows with what Kafka and the ledger say they should be.

Kafka decides on every offset that it can be asked for. Where it can't, what the table has stays; and no row is given
up for one that says less (a schema that is gone from the registry would make a dead letter of it).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.frames.row_comparison import differing
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, offset_frame, offsets_of, rows_within, split_rows
from k2_market.repair.day_repair import DayFacts, Rewrite

_BYTES = ("payload", "kafka_key", "kafka_timestamp", "schema_id", "correlation_id")
"""Columns by which dead letters are compared. Their reason and their day may depend on the day of decoding."""


class Change(StrEnum):
    """Describes what a repair does to rows of its day, and why."""

    ADDED = "missing: added"
    REPLACED = "not as in Kafka: replaced"
    DECODED = "dead letter that decodes now: replaced"
    MOVED = "of another day: moved there"
    REPEATED = "there more than once: left out"
    STRAY = "not in the ledger: left out"


class Untouched(StrEnum):
    """Describes what a repair of a day finds and leaves as it is, and why."""

    NOT_RETAINED = "can't be read from Kafka again: kept"
    SET_ASIDE = "set aside: kept; only k2 repair --dead-letters tries them again"
    NO_MESSAGE = "Kafka has no message there: kept"
    UNREADABLE = "would not decode any more: kept"
    LEAVING = "dead letter that decodes now, of another day: moved by k2 repair --dead-letters"
    ELSEWHERE_TOO = "another day has a row of it too: repair that day"
    MISSING_ELSEWHERE = "missing too: repair that day"
    GONE = "without a row, message or hole, and can't be read from Kafka again"


@dataclass(frozen=True)
class RowDifference:
    """Rows or offsets of which the same is to be said.

    Attributes:
        what: What is to be said.
        rows: How many they are.
        offsets: Where they came from.
        day: Their trading day, where it is another one than the day that is repaired.
    """

    what: Change | Untouched
    rows: int
    offsets: RangeSet
    day: date | None = None


@dataclass(frozen=True)
class DayDifference:
    """Describes how a day's rows differ from what they should be.

    Attributes:
        before: How many rows the table has of the day.
        rewrite: What is to be written: the day's rows as they should be, and rows that belong to other days.
        changes: What makes the difference; empty where there is none.
        untouched: What stays as it is though something is to be said of it.
    """

    before: int
    rewrite: Rewrite
    changes: tuple[RowDifference, ...]
    untouched: tuple[RowDifference, ...]


def difference(facts: DayFacts, reread: pa.Table) -> DayDifference:
    """Tell how a day's rows differ from what Kafka gives.

    Args:
        facts: What the table has.
        reread: What all messages at ``facts.wanted`` decode to now; it may hold other rows beside.
    """
    known, strays = split_rows(facts.rows, rows_within(facts.rows, facts.ledger.covered))
    own, copies = _first_of_each(known)
    judged = _judged(facts, own, reread)
    missing = reread.filter(pa.array(rows_within(reread, facts.without_row)))
    added = missing.filter(pc.equal(missing["trade_date"], facts.day))
    moved = judged.in_kafka(Change.MOVED)
    of_day = pa.concat_tables([judged.in_table(*_KEPT), judged.in_kafka(Change.REPLACED, Change.DECODED), added])
    gone = facts.without_row - facts.wanted
    return DayDifference(
        before=facts.rows.num_rows,
        rewrite=Rewrite(facts.day, pa.concat_tables([_filed_under(facts.day, of_day), moved])),
        changes=_if_any(
            _found(Change.ADDED, added),
            *(_found(each, judged.in_table(each)) for each in (Change.REPLACED, Change.DECODED, Change.MOVED)),
            _found(Change.REPEATED, pa.concat_tables([copies, judged.in_table(Change.REPEATED)])),
            _found(Change.STRAY, strays),
        ),
        untouched=_if_any(
            *(_found(each, judged.in_table(each)) for each in _KEPT_THOUGH),
            _found(Untouched.ELSEWHERE_TOO, judged.elsewhere_too()),
            *_by_day(Untouched.MISSING_ELSEWHERE, missing.filter(pc.not_equal(missing["trade_date"], facts.day))),
            RowDifference(Untouched.GONE, len(gone), gone),
        ),
    )


_AS_IN_KAFKA = "as in Kafka"
_KEPT_THOUGH = (
    Untouched.NOT_RETAINED,
    Untouched.SET_ASIDE,
    Untouched.NO_MESSAGE,
    Untouched.UNREADABLE,
    Untouched.LEAVING,
)
_KEPT = (_AS_IN_KAFKA, *_KEPT_THOUGH)


def _first_of_each(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return one row of each offset, and the others; of several, one that decoded comes first."""
    first = (
        offset_frame(rows)
        .with_columns(pl.Series("dead", rows["reject_reason"].is_valid().to_numpy()))
        .with_row_index("row")
        .sort("dead", maintain_order=True)
        .unique(OFFSET_COLUMNS, keep="first")["row"]
        .to_numpy()
    )
    chosen = np.zeros(rows.num_rows, np.bool_)
    chosen[first] = True
    return split_rows(rows, chosen)


@dataclass(frozen=True)
class _Judged:
    """The day's rows, and what is to be done with each.

    Attributes:
        own: The rows, each offset once.
        reread: Kafka's.
        frame: For each own row ``verdict``, ``place`` of Kafka's row, and whether an ``elsewhere`` row has its offset.
    """

    own: pa.Table
    reread: pa.Table
    frame: pl.DataFrame

    def in_table(self, *verdicts: str) -> pa.Table:
        """Return the rows so judged, as the table has them."""
        return split_rows(self.own, self.frame["verdict"].is_in(verdicts).to_numpy())[0]

    def in_kafka(self, *verdicts: str) -> pa.Table:
        """Return the rows so judged, as Kafka has them."""
        return self.reread.take(self.frame.filter(pl.col("verdict").is_in(verdicts))["place"].to_arrow())

    def elsewhere_too(self) -> pa.Table:
        """Return the rows that stay here and have their like in other days."""
        stay = pl.col("elsewhere") & (pl.col("verdict") != Change.REPEATED)
        return self.own.filter(self.frame.select(stay).to_series().to_arrow())


def _judged(facts: DayFacts, own: pa.Table, reread: pa.Table) -> _Judged:
    frame = _side_by_side(own, reread).with_columns(
        pl.Series("asked", rows_within(own, facts.wanted)),
        pl.Series("elsewhere", rows_within(own, offsets_of(facts.elsewhere))),
        pl.Series("set_aside", rows_within(own, facts.ledger.set_aside)),
    )
    was_dead, is_dead, of_the_day = pl.col("was_dead"), pl.col("is_dead"), pl.col("its_day") == facts.day
    verdict = (
        pl.when(pl.col("set_aside"))
        .then(pl.lit(Untouched.SET_ASIDE))
        .when(~pl.col("asked"))
        .then(pl.lit(Untouched.NOT_RETAINED))
        .when(pl.col("place").is_null())
        .then(pl.lit(Untouched.NO_MESSAGE))
        .when(is_dead & ~was_dead)
        .then(pl.lit(Untouched.UNREADABLE))
        .when(pl.when(is_dead).then(~pl.col("bytes_differ")).otherwise(~pl.col("differs")))
        .then(pl.lit(_AS_IN_KAFKA))
        .when(was_dead & ~is_dead & ~of_the_day)
        .then(pl.lit(Untouched.LEAVING))
        .when(was_dead & ~is_dead)
        .then(pl.lit(Change.DECODED))
        .when(is_dead | of_the_day)
        .then(pl.lit(Change.REPLACED))
        .when(pl.col("elsewhere"))
        .then(pl.lit(Change.REPEATED))
        .otherwise(pl.lit(Change.MOVED))
    )
    return _Judged(own, reread, frame.with_columns(verdict.alias("verdict")))


def _side_by_side(own: pa.Table, reread: pa.Table) -> pl.DataFrame:
    """Return each own row beside Kafka's row of the same offset, and whether the two differ."""
    kafka = offset_frame(reread).with_columns(
        pl.Series("place", np.arange(reread.num_rows)),
        pl.Series("its_day", reread["trade_date"].to_numpy(), pl.Date),
        pl.Series("is_dead", reread["reject_reason"].is_valid().to_numpy()),
    )
    frame = (
        offset_frame(own)
        .with_columns(pl.Series("was_dead", own["reject_reason"].is_valid().to_numpy()))
        .join(kafka, on=OFFSET_COLUMNS, how="left", maintain_order="left")
    )
    both = np.flatnonzero(frame["place"].is_not_null().to_numpy())
    pairs = both, frame["place"].drop_nulls().to_numpy()
    differs, bytes_differ = np.zeros((2, own.num_rows), np.bool_)
    differs[both] = differing(own, reread, pairs, own.column_names)
    bytes_differ[both] = differing(own, reread, pairs, _BYTES)
    return frame.with_columns(pl.Series("differs", differs), pl.Series("bytes_differ", bytes_differ))


def _filed_under(day: date, rows: pa.Table) -> pa.Table:
    """Return rows of a day; dead letters stay where they are filed, whatever day they would be filed under now."""
    place, field = rows.schema.get_field_index("trade_date"), rows.schema.field("trade_date")
    return rows.set_column(place, field, pa.repeat(pa.scalar(day, field.type), rows.num_rows))


def _found(what: Change | Untouched, rows: pa.Table) -> RowDifference:
    return RowDifference(what, rows.num_rows, offsets_of(rows))


def _by_day(what: Untouched, rows: pa.Table) -> Iterator[RowDifference]:
    for day in sorted(rows["trade_date"].unique().to_pylist()):
        yield replace(_found(what, rows.filter(pc.equal(rows["trade_date"], day))), day=day)


def _if_any(*found: RowDifference) -> tuple[RowDifference, ...]:
    return tuple(each for each in found if each.rows)
