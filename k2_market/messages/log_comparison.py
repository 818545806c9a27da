"""Compares rows of a raw table with the messages that a log has at their offsets: the same, something else, unknown."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from k2_market.frames.row_comparison import Places, differing
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, offset_frame, offsets_of
from k2_market.messages.batch import MessageBatch

_ORIGIN = ("kafka_timestamp", "schema_id", "correlation_id")
"""Columns that every row keeps of its message, decoded or not."""


@dataclass(frozen=True)
class ComparedOffsets:
    """Describes what came of comparing a ledger's offsets with a log.

    Attributes:
        same: The log has what the rows say; where there is no row, it has no message.
        other: It has a message that the row, or the lack of one, does not speak of.
        unknown: It can't be told: the log has no message to a row, as compaction and retention leave it, or one that
            does not decode any more and may be the row's.
    """

    same: RangeSet = field(default_factory=RangeSet)
    other: RangeSet = field(default_factory=RangeSet)
    unknown: RangeSet = field(default_factory=RangeSet)

    def __or__(self, more: "ComparedOffsets") -> "ComparedOffsets":
        return ComparedOffsets(self.same | more.same, self.other | more.other, self.unknown | more.unknown)


def compared(offsets: RangeSet, rows: pa.Table, messages: MessageBatch, decoded: pa.Table) -> ComparedOffsets:
    """Compare rows with messages, offset by offset.

    Args:
        offsets: The offsets to be told of, all of which were read.
        rows: The table's rows at these offsets.
        messages: The log's messages at these offsets.
        decoded: What the messages decode to now, in their order.
    """
    pairs = _pairs(rows, decoded)
    own, place = pairs["row"].to_numpy(), pairs["place"].to_numpy()
    was_dead = rows["reject_reason"].is_valid().to_numpy()[own]
    is_dead = decoded["reject_reason"].is_valid().to_numpy()[place]
    origin = differing(rows, decoded, (own, place), _ORIGIN)
    content = differing(rows, decoded, (own, place), rows.column_names)
    is_other = origin | np.where(was_dead, _bytes_differ(rows, messages, own, place), ~is_dead & content)
    is_unknown = ~origin & ~was_dead & is_dead
    without_row = offsets_of(decoded) - offsets_of(rows)
    other = (offsets_of(rows.take(pa.array(own[is_other]))) | without_row) & offsets
    unknown = (offsets_of(rows.take(pa.array(own[is_unknown]))) | (offsets_of(rows) - offsets_of(decoded))) & offsets
    return ComparedOffsets(offsets - other - unknown, other, unknown - other)


def _pairs(rows: pa.Table, decoded: pa.Table) -> pl.DataFrame:
    """For each row that has a message: the place of either in its table."""
    of_log = offset_frame(decoded).with_columns(pl.Series("place", np.arange(decoded.num_rows)))
    of_table = offset_frame(rows).with_columns(pl.Series("row", np.arange(rows.num_rows)))
    return of_table.join(of_log, on=OFFSET_COLUMNS, how="inner", maintain_order="left")


def _bytes_differ(rows: pa.Table, messages: MessageBatch, own: Places, place: Places) -> np.ndarray:
    """Tell which rows hold other bytes than their message, which matters of dead letters alone: they keep them."""
    payloads, keys = rows["payload"].to_pylist(), rows["kafka_key"].to_pylist()
    pairs = zip(own.tolist(), place.tolist(), strict=True)
    found = ((payloads[row], keys[row]) != (messages.values[at], messages.keys[at]) for row, at in pairs)
    return np.fromiter(found, np.bool_, len(own))
