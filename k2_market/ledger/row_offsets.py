"""Reads the Kafka offsets of rows as ranges, and selects the rows that lie in given ranges."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.frames.row_comparison import Mask
from k2_market.ledger.offset_ranges import RangeSet, Span

OFFSET_COLUMNS = ("kafka_topic_id", "kafka_partition", "kafka_offset")
"""Columns that identify a raw row; unique over a whole raw table."""


def offsets_of(rows: pa.Table) -> RangeSet:
    """Return the offsets of some raw rows, each once however often it occurs."""
    spans: dict[tuple[str, int], tuple[Span, ...]] = {}
    frame = offset_frame(rows).unique()
    for (topic_id, partition), group in frame.group_by("kafka_topic_id", "kafka_partition"):
        offsets = np.sort(group["kafka_offset"].to_numpy())
        starts = np.flatnonzero(np.diff(offsets, prepend=offsets[0] - 2) > 1)
        ends = np.append(starts[1:], len(offsets)) - 1
        spans[(str(topic_id), int(str(partition)))] = tuple(
            zip(offsets[starts].tolist(), (offsets[ends] + 1).tolist(), strict=True)
        )
    return RangeSet(dict(sorted(spans.items())))


def rows_within(rows: pa.Table, ranges: RangeSet) -> Mask:
    """Tell which raw rows have their offsets in some ranges."""
    inside = np.zeros(rows.num_rows, np.bool_)
    of_topic = {
        topic_id: pc.equal(rows["kafka_topic_id"], topic_id).to_numpy() for topic_id in {key[0] for key in ranges.spans}
    }
    partitions = rows["kafka_partition"].to_numpy()
    offsets = rows["kafka_offset"].to_numpy()
    for (topic_id, partition), spans in ranges.spans.items():
        of_log = np.flatnonzero(of_topic[topic_id] & (partitions == partition))
        bounds = np.array(spans, np.int64)
        nearest = np.searchsorted(bounds[:, 0], offsets[of_log], side="right") - 1
        # Before the first range the index is -1, and the last range's end lies past what comes before the first.
        inside[of_log] = (nearest >= 0) & (offsets[of_log] < bounds[nearest, 1])
    return inside


def split_rows(rows: pa.Table, chosen: Mask) -> tuple[pa.Table, pa.Table]:
    """Return the rows that are meant, and the others; where all are meant they are not copied."""
    if chosen.all():
        return rows, rows.slice(0, 0)
    return rows.filter(pa.array(chosen)), rows.filter(pa.array(~chosen))


def offset_frame(rows: pa.Table) -> pl.DataFrame:
    """Return the offset columns of some raw rows."""
    frame = pl.from_arrow(rows.select(OFFSET_COLUMNS))
    assert isinstance(frame, pl.DataFrame)
    return frame
