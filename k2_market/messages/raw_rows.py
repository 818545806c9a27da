"""Makes the raw table of a batch: decoded rows and dead letters, each with its place in Kafka.

A dead letter has its value's bytes in ``payload``, its key in ``kafka_key``, a reason, the schema id if its header
could be read, and no decoded column but ``trade_date``: the day that ``DayWindow.day_of`` files it under.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2_market.feeds.day_window import DayWindow
from k2_market.messages.batch import MessageBatch
from k2_market.schemas.message_kinds import MessageKind
from k2_market.schemas.tables import TIMESTAMP
from k2_market.values.record_times import END_OF_TIME_MS

Positions = npt.NDArray[np.int64]
"""Places of messages in their batch."""

DeadLetters = Mapping[int, str]
"""Reasons by place in the batch."""

_MAX_REASON_CHARACTERS = 500

_DEAD_LETTER_TYPES = {"reject_reason": pa.string(), "payload": pa.binary(), "kafka_key": pa.binary()}


@dataclass(frozen=True)
class DecodedRows:
    """Messages that became rows.

    Attributes:
        positions: Where in the batch each row's message stands.
        columns: K2's fields by name, typed as in the raw table.
    """

    positions: Positions
    columns: Mapping[str, pa.Array]


def table_columns(columns: Mapping[str, pa.Array], keep: npt.NDArray[np.bool_] | None) -> dict[str, pa.Array]:
    """Admitted columns in the types of the raw table.

    Args:
        columns: As ``row_resolution.resolve`` gives them.
        keep: The rows to keep; None keeps all.
    """
    mask = None if keep is None else pa.array(keep)
    kept = {name: column if mask is None else column.filter(mask) for name, column in columns.items()}
    for name in ("exchange_timestamp", "received_timestamp"):
        kept[name] = kept[name].cast(TIMESTAMP)
    kept["trade_date"] = kept["trade_date"].cast(pa.int32()).cast(pa.date32())
    return kept


def raw_table(
    batch: MessageBatch,
    kind: MessageKind,
    decoded: Sequence[DecodedRows],
    dead: DeadLetters,
    schema_ids: pa.Array,
    days: DayWindow,
) -> pa.Table:
    """Return all messages of a batch as rows of the raw table, in their order.

    Args:
        batch: The messages.
        kind: What they are; decides on the schema.
        decoded: The messages that became rows.
        dead: All the others.
        schema_ids: Each message's schema id (int32), null where its header can't be read.
        days: Where dead letters' days are clamped into.
    """
    columns = {
        **_message_columns(len(batch), kind, decoded),
        **_kafka_columns(batch, schema_ids),
        **_dead_letter_columns(batch, dead),
    }
    if dead:
        columns["trade_date"] = _filed_under(columns["trade_date"], batch, dead, days)
    return pa.table([columns[name] for name in kind.rows.names], schema=kind.rows)


def _message_columns(count: int, kind: MessageKind, decoded: Sequence[DecodedRows]) -> dict[str, pa.ChunkedArray]:
    columns = {
        field.name: pa.chunked_array([rows.columns[field.name] for rows in decoded], field.type)
        for field in kind.message_fields
    }
    positions = np.concatenate([np.empty(0, np.int64), *(rows.positions for rows in decoded)])
    if len(positions) == count and bool((positions == np.arange(count)).all()):
        return columns
    row_of = np.zeros(count, np.int64)
    row_of[positions] = np.arange(len(positions))
    no_row = np.ones(count, np.bool_)
    no_row[positions] = False
    indices = pa.array(row_of, mask=no_row)
    return {name: column.take(indices) for name, column in columns.items()}


def _kafka_columns(batch: MessageBatch, schema_ids: pa.Array) -> dict[str, pa.Array]:
    timestamps = np.asarray(batch.timestamps_ms, np.int64)
    absent = (timestamps < 0) | (timestamps >= END_OF_TIME_MS)
    micros = np.where(absent, 0, timestamps) * 1000
    return {
        "kafka_topic_id": pa.repeat(pa.scalar(batch.topic_id, pa.string()), len(batch)),
        "kafka_partition": pa.array(np.asarray(batch.partitions, np.int32)),
        "kafka_offset": pa.array(np.asarray(batch.offsets, np.int64)),
        "kafka_timestamp": pa.array(micros, mask=absent).cast(TIMESTAMP),
        "schema_id": schema_ids,
        "correlation_id": pa.array(batch.correlation_ids, pa.string()),
    }


def _dead_letter_columns(batch: MessageBatch, dead: DeadLetters) -> dict[str, pa.Array]:
    count = len(batch)
    if not dead:
        return {name: pa.nulls(count, kind) for name, kind in _DEAD_LETTER_TYPES.items()}
    reasons: list[str | None] = [None] * count
    payloads: list[bytes | None] = [None] * count
    keys: list[bytes | None] = [None] * count
    for position, reason in dead.items():
        reasons[position] = reason_text(reason)
        payloads[position] = batch.values[position]
        keys[position] = batch.keys[position]
    columns = {"reject_reason": reasons, "payload": payloads, "kafka_key": keys}
    return {name: pa.array(column, _DEAD_LETTER_TYPES[name]) for name, column in columns.items()}


def reason_text(reason: str) -> str:
    r"""Write a reason as it is kept: 500 characters at most, with all that can't be shown written out, as ``\x00``.

    Reasons name fields, types and errors, which hold what a producer chose.
    """
    if len(reason) > _MAX_REASON_CHARACTERS:
        reason = f"{reason[: _MAX_REASON_CHARACTERS - 1]}…"
    if reason.isprintable():
        return reason
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in reason)


def _filed_under(trade_dates: pa.ChunkedArray, batch: MessageBatch, dead: DeadLetters, days: DayWindow) -> pa.Array:
    positions = np.fromiter(dead, np.int64, len(dead))
    filed = np.array([days.day_of(int(batch.timestamps_ms[position])) for position in dead], "datetime64[D]")
    found = trade_dates.cast(pa.int32()).fill_null(0).to_numpy().copy()
    found[positions] = filed.astype(np.int32)
    return pa.array(found).cast(pa.date32())
