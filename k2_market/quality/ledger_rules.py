"""Checks that the offsets of a ledger and the rows of its raw table agree."""

from collections.abc import Callable
from datetime import date

import polars as pl
import pyarrow as pa

from k2_market.frames.day_batches import DayBatches, compact_frames, frames, plain
from k2_market.frames.number_runs import runs_of, union_of
from k2_market.frames.repeated_keys import rows_sharing_a_key
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, offsets_of, rows_within
from k2_market.quality.finding import Finding, Severity
from k2_market.quality.ledger_checks import OFFSETS_RECONCILE
from k2_market.verification.offset_accounts import difference, intersection, offsets_in, ranges

_LOG = ["kafka_topic_id", "kafka_partition"]
_NONE = pl.DataFrame(schema={"kafka_topic_id": pl.String, "kafka_partition": pl.Int32, "kafka_offset": pl.Int64})


def offsets_reconcile(
    day: date, day_rows: DayBatches, table_rows: int, ledger: Ledger, all_offsets: Callable[[], pa.Table]
) -> Finding:
    """Check that every offset in the ledger is exactly one row, and that every row's offset is in the ledger.

    Args:
        day: The trading day looked at.
        day_rows: ``kafka_topic_id``, ``kafka_partition``, ``kafka_offset`` of the day's rows; gone through once where
            all is well, and looked at row by row where it is not.
        table_rows: Rows of the whole table, by its metadata.
        ledger: The table's ledger.
        all_offsets: Gives the same three columns of the whole table; asked only when the counts differ, to name
            the offsets that are missing.
    """
    rows, seen = _seen(day_rows)
    unknown = difference(seen, ranges((each.topic_id, each.partition, each.start, each.end) for each in ledger.covered))
    sound = rows == offsets_in(seen) and unknown.is_empty()
    offsets = _NONE if sound else pl.concat([_NONE, *frames(day_rows, OFFSET_COLUMNS)])
    repeated = rows_sharing_a_key(offsets, OFFSET_COLUMNS).unique().sort(OFFSET_COLUMNS)
    strays = offsets_outside(offsets, ledger.covered)
    missing = ledger.covered - offsets_of(all_offsets()) if table_rows < ledger.messages else RangeSet()
    lost = lost_before(seen, ledger)
    surplus = table_rows - ledger.messages
    wrong = bool(surplus or repeated.height or strays.height)
    topics = seen["topic_id"].n_unique()
    return Finding(
        check=OFFSETS_RECONCILE,
        passed=not (wrong or lost or topics > 1),
        # Rows that don't add up make bars wrong; what the broker lost is known to be gone, and bars are doubtful.
        severity=Severity.ERROR if wrong else Severity.WARN,
        description=_describe(day, surplus, repeated.height, strays.height, len(lost), topics, ledger),
        numbers={
            "rows_of_day": rows,
            "rows_of_table": table_rows,
            "messages_in_ledger": ledger.messages,
            "offsets_in_ledger": len(ledger.covered),
            "holes": ledger.holes,
            "rows_less_messages": surplus,
            "lost_to_retention": len(lost),
            "repeated_offsets": repeated.height,
            "offsets_not_in_ledger": strays.height,
            "topics": topics,
        },
        examples=(
            *({"kind": "missing or hole", "range": str(each)} for each in missing),
            *({"kind": "lost to retention", "range": str(each)} for each in lost),
            *({"kind": "repeated", "offset": f"{t}/{p}@{o}"} for t, p, o in repeated.head(20).iter_rows()),
            *({"kind": "not in ledger", "offset": f"{t}/{p}@{o}"} for t, p, o in strays.head(20).iter_rows()),
        )[:1000],
        sizes=frozenset({"rows_of_day", "rows_of_table", "messages_in_ledger", "offsets_in_ledger", "holes"}),
    )


def _seen(day_rows: DayBatches) -> tuple[int, pl.DataFrame]:
    """Tell how many rows a day has, and the ranges of the offsets that they have."""
    rows, runs = 0, [runs_of(_NONE, _LOG, "kafka_offset")]
    for offsets in compact_frames(day_rows, OFFSET_COLUMNS):
        rows += offsets.height
        runs.append(plain(runs_of(offsets, _LOG, "kafka_offset")))
    return rows, union_of(runs, _LOG).select(
        topic_id="kafka_topic_id", partition="kafka_partition", start="first", end=pl.col("last") + 1
    )


def lost_before(seen: pl.DataFrame, ledger: Ledger) -> RangeSet:
    """Return the ranges lost to retention just before a row of the day: those that its trades may be missing from."""
    after = ranges((each.topic_id, each.partition, each.end, each.end + 1) for each in ledger.lost)
    found = set(intersection(seen, after).select("topic_id", "partition", "start").iter_rows())
    return RangeSet.of(each for each in ledger.lost if (each.topic_id, each.partition, each.end) in found)


def offsets_outside(offsets: pl.DataFrame, covered: RangeSet) -> pl.DataFrame:
    """Select those of some offsets (topic id, partition, offset) that a set does not cover."""
    inside = rows_within(offsets.to_arrow(), covered)
    return offsets.filter(pl.Series(~inside))


def _describe(day: date, surplus: int, repeated: int, strays: int, lost: int, topics: int, ledger: Ledger) -> str:
    wrong = [
        text
        for count, text in (
            (-surplus, f"the table has {-surplus} rows fewer than the ledger has messages"),
            (surplus, f"the table has {surplus} rows more than the ledger has messages"),
            (repeated, f"{repeated} offsets of {day} are there more than once"),
            (strays, f"{strays} rows of {day} have offsets that the ledger does not know"),
            (lost, f"{lost} offsets before rows of {day} were removed by retention before they were read"),
            (topics - 1, f"{day} was fed by {topics} topics: the topic was recreated"),
        )
        if count > 0
    ]
    if wrong:
        return f"{'; '.join(wrong)}.".capitalize()
    return f"{ledger.messages} messages in the ledger, as many rows, each once."
