"""From Kafka messages to the rows of a raw table, one for every message, whatever it holds.

Messages are grouped by the schema that they were written with and read a block at a time; in a block that can't be
read, the messages at fault are searched for, and fastavro decides on each suspect (``message_reader``). What was read
is brought into K2's own fields (``row_resolution``) and looked over (``row_admission``). What was not becomes a dead
letter: bytes, key and reason in place of the decoded columns (``raw_rows``).

Fields of a writer's schema that K2 does not know are kept in ``attributes``, as text under their own names: a raw
table does not grow columns by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from k2_market.avro_schemas import MessageKind
from k2_market.day_window import DayWindow
from k2_market.joined_values import JoinedValues
from k2_market.message_batch import MessageBatch
from k2_market.message_framing import HEADER_BYTES, framing_fault, schema_id_of
from k2_market.message_reader import message_reader
from k2_market.raw_rows import DecodedRows, Positions, raw_table, table_columns
from k2_market.row_admission import refusals
from k2_market.row_resolution import Faults, resolve
from k2_market.schema_resolution import ReadingPlan, UnreadableSchema, reading_plan

__all__ = ["DayWindow", "decode", "schema_ids"]

MESSAGES_PER_BLOCK = 75_000
"""Decoding asks for Python's lock some eighty times a block, and waits for the thread that reads each time."""


def decode(
    batch: MessageBatch, kind: MessageKind, writer_schemas: Mapping[int, dict[str, Any]], days: DayWindow
) -> pa.Table:
    """One raw row for every message, in the messages' order; nothing that a message may hold makes this raise.

    Args:
        batch: The messages.
        kind: What they should be.
        writer_schemas: The registry's schemas by id; a message whose schema is not there is a dead letter.
        days: The trading days that the feed's tables may hold.

    Returns:
        A table with the schema ``RAW_TRADES`` or ``RAW_QUOTES``.
    """
    decoded: list[DecodedRows] = []
    dead: dict[int, str] = {}
    groups = list(_groups(batch))
    for group in groups:
        plan = _plan_for(group.header, kind, writer_schemas)
        if isinstance(plan, ReadingPlan):
            for rows, faults in _decoded(group, plan, days):
                decoded.append(rows)
                dead.update(faults)
        else:
            dead.update(dict.fromkeys(group.positions.tolist(), plan))
    return raw_table(batch, kind, decoded, dead, _schema_id_column(len(batch), groups), days)


def schema_ids(batch: MessageBatch) -> frozenset[int]:
    """The ids of all writer schemas that a batch's headers name; negative ones, which no registry has, left out."""
    found = {schema_id_of(header) for header in batch.joined.headers if header is not None}
    return frozenset(each for each in found if each is not None and each >= 0)


@dataclass(frozen=True)
class _Group:
    """Messages whose first five bytes are the same; ``header`` is None for null values."""

    header: bytes | None
    positions: Positions
    values: JoinedValues

    @property
    def schema_id(self) -> int | None:
        return None if self.header is None else schema_id_of(self.header)


def _groups(batch: MessageBatch) -> Iterator[_Group]:
    values = batch.joined
    if len(values.headers) == 1:
        (header,) = values.headers
        yield _Group(header, np.arange(len(batch)), values)
        return
    positions: dict[bytes | None, list[int]] = {}
    for position, value in enumerate(values):
        positions.setdefault(None if value is None else value[:HEADER_BYTES], []).append(position)
    for header, places in positions.items():
        yield _Group(header, np.array(places, np.int64), JoinedValues.of([values[place] for place in places]))


def _plan_for(header: bytes | None, kind: MessageKind, writer_schemas: Mapping[int, Any]) -> ReadingPlan | str:
    """How messages with this header are read, or why none of them can be."""
    fault = framing_fault(header)  # says of a header what it says of the value: a short value is all header
    schema_id = None if fault or header is None else schema_id_of(header)
    if fault or schema_id is None:
        return fault or "no header"
    if schema_id not in writer_schemas:
        return f"unknown schema id {schema_id}"
    plan = reading_plan(schema_id, writer_schemas[schema_id], kind)
    return plan.reason if isinstance(plan, UnreadableSchema) else plan


def _decoded(group: _Group, plan: ReadingPlan, days: DayWindow) -> Iterator[tuple[DecodedRows, Faults]]:
    """A group's rows block by block, and why its other messages are none, by place in the batch."""
    read = message_reader(plan)
    for start in range(0, len(group.values), MESSAGES_PER_BLOCK):
        block = slice(start, start + MESSAGES_PER_BLOCK)
        positions = group.positions[block]
        found = read(group.values[block])
        resolved = resolve(found.wire, plan)
        refused = {**refusals(resolved.columns, days), **resolved.faults}
        keep = None
        if refused:
            keep = np.ones(found.wire.num_rows, np.bool_)
            keep[list(refused)] = False
        row_positions = positions[found.places]
        yield (
            DecodedRows(row_positions if keep is None else row_positions[keep], table_columns(resolved.columns, keep)),
            {
                **{int(positions[place]): reason for place, reason in found.faults.items()},
                **{int(row_positions[row]): reason for row, reason in refused.items()},
            },
        )


def _schema_id_column(count: int, groups: Sequence[_Group]) -> pa.Array:
    if len(groups) == 1:
        return pa.repeat(pa.scalar(groups[0].schema_id, pa.int32()), count)
    ids = np.zeros(count, np.int32)
    unreadable = np.zeros(count, np.bool_)
    for group in groups:
        unreadable[group.positions] = group.schema_id is None
        ids[group.positions] = group.schema_id or 0
    return pa.array(ids, mask=unreadable)
