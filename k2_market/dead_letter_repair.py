"""Dead letters decoded again from the bytes that were kept of them, after a schema or a reader was mended."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from k2_market.day_repair import Rewrite
from k2_market.day_window import NO_TIMESTAMP
from k2_market.message_batch import MessageBatch
from k2_market.offset_ranges import RangeSet
from k2_market.row_offsets import offset_frame, offsets_of, within


@dataclass(frozen=True)
class Revival:
    """What becomes of the dead letters filed under a day.

    Attributes:
        rewrite: What is to be written: the day's rows, and those of its dead letters that belong to other days.
        dead_letters: How many dead letters the day has.
        decoded: How many of them decode now, by the day that they belong to; empty where none does.
        reasons: Why the others don't, and how many.
    """

    rewrite: Rewrite
    dead_letters: int
    decoded: Mapping[date, int]
    reasons: Mapping[str, int]


def dead_letters_of(rows: pa.Table) -> pa.Table:
    """The dead letters among some raw rows."""
    return rows.filter(rows["reject_reason"].is_valid())


def kept_messages(dead: pa.Table) -> list[MessageBatch]:
    """The messages that some dead letters were, as they were read; a batch for each topic id."""
    batches = []
    for topic_id in sorted(dead["kafka_topic_id"].unique().to_pylist()):
        rows = dead.filter(pc.equal(dead["kafka_topic_id"], topic_id))
        milliseconds = pc.divide(rows["kafka_timestamp"].cast(pa.int64()), 1000)
        batches.append(
            MessageBatch(
                topic_id=topic_id,
                partitions=rows["kafka_partition"].to_pylist(),
                offsets=rows["kafka_offset"].to_pylist(),
                timestamps_ms=milliseconds.fill_null(NO_TIMESTAMP).to_pylist(),
                keys=rows["kafka_key"].to_pylist(),
                values=rows["payload"].to_pylist(),
                correlation_ids=rows["correlation_id"].to_pylist(),
            )
        )
    return batches


def revival(day: date, rows: pa.Table, elsewhere: pa.Table, covered: RangeSet, again: pa.Table) -> Revival:
    """What becomes of a day's dead letters.

    Those that are in the table more than once, or not in its ledger, stay: the day is to be repaired first.

    Args:
        day: The day that they are filed under.
        rows: All rows of the day.
        elsewhere: The offset columns of rows of other days, of those at least that have an offset of a dead letter.
        covered: The offsets in the ledger.
        again: What the dead letters decode to now.
    """
    decoded = again.filter(again["reject_reason"].is_null())
    decoded = decoded.filter(pa.array(within(decoded, covered - offsets_of(elsewhere) - _repeated(rows))))
    replaced = within(rows, offsets_of(decoded))
    dead = dead_letters_of(rows)
    still_dead = again.filter(pa.array(~within(again, offsets_of(decoded))))
    return Revival(
        rewrite=Rewrite(day, pa.concat_tables([rows.filter(pa.array(~replaced)), decoded])),
        dead_letters=dead.num_rows,
        decoded=dict(sorted(Counter(decoded["trade_date"].to_pylist()).items())),
        reasons=dict(Counter(_reason(each) for each in still_dead["reject_reason"].to_pylist()).most_common()),
    )


def _repeated(rows: pa.Table) -> RangeSet:
    frame = offset_frame(rows)
    return offsets_of(rows.filter(frame.is_duplicated().to_arrow()))


def _reason(found: str | None) -> str:
    return "in the table more than once, or not in its ledger: repair the day first" if found is None else found
