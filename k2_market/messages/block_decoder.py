"""Decodes a batch of Kafka messages into rows of a raw table: one row a message, whatever it holds.

Messages are grouped by the schema that they were written with and read a block at a time; in a block that can't be
read, the messages at fault are searched for, and fastavro decides on each suspect (``message_reader``). What was read
is brought into K2's own fields (``row_resolution``) and looked over (``row_admission``). What was not becomes a dead
letter: bytes, key and reason in place of the decoded columns (``raw_rows``).

Fields of a writer's schema that K2 does not know are kept in ``attributes``, as text under their own names: a raw
table does not grow columns by itself.

What else goes wrong with a message, by a fault of K2's or of a library's, makes that one message a dead letter
(``failing_messages``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from k2_market.feeds.day_window import DayWindow
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.batch import MessageBatch
from k2_market.messages.failing_messages import rows_around_failures
from k2_market.messages.framing import HEADER_BYTES, frame, framing_fault, schema_id_of
from k2_market.messages.message_reader import message_reader
from k2_market.messages.raw_rows import DecodedRows, Positions, raw_table, table_columns
from k2_market.messages.row_admission import claimed_names, refusals
from k2_market.messages.row_resolution import Faults, resolve
from k2_market.messages.schema_resolution import ReadingPlan, UnreadableSchema, reading_plan
from k2_market.messages.value_buffer import JoinedValues
from k2_market.messages.writer_schemas import WriterSchema
from k2_market.schemas.message_kinds import MessageKind

__all__ = ["DayWindow", "decode", "offsets_with_schema", "part_sizes", "schema_ids", "undecoded"]

MESSAGES_PER_BLOCK = 75_000
"""Decoding asks for Python's lock some eighty times a block, and waits for the thread that reads each time."""

MAX_TEXT_PER_PART = 512 * 1024**2
"""Characters of attributes that the messages which are decoded together may become."""

_FEW_FIELDS = 16
"""New fields of a schema that make its blocks no smaller: each takes memory in all messages of a block at once."""


def decode(
    batch: MessageBatch, kind: MessageKind, writer_schemas: Mapping[int, WriterSchema], days: DayWindow
) -> pa.Table:
    """Return one raw row for every message, in the messages' order; nothing that a message may hold makes this raise.

    Args:
        batch: The messages.
        kind: What they should be.
        writer_schemas: What the registry has under each id; a message whose schema is not there is a dead letter.
        days: The trading days that the feed's tables may hold.

    Returns:
        A table with the kind's ``rows`` as its schema.

    Raises:
        MemoryError: There is not enough for a single message.
    """
    return rows_around_failures(
        batch,
        lambda some: _decode(some, kind, writer_schemas, days),
        lambda one, reason: undecoded(one, kind, reason, days),
    )


def undecoded(batch: MessageBatch, kind: MessageKind, reason: str, days: DayWindow) -> pa.Table:
    """Make dead letters of messages, all for one reason, without decoding them.

    Args:
        batch: The messages.
        kind: What they should be.
        reason: Why they are not decoded.
        days: The trading days that the feed's tables may hold.
    """
    headers = [None if value is None else value[:HEADER_BYTES] for value in batch.values]
    schema_ids = pa.array([None if each is None else schema_id_of(each) for each in headers], pa.int32())
    return raw_table(batch, kind, [], dict.fromkeys(range(len(batch)), reason), schema_ids, days)


def _decode(
    batch: MessageBatch, kind: MessageKind, writer_schemas: Mapping[int, WriterSchema], days: DayWindow
) -> pa.Table:
    decoded: list[DecodedRows] = []
    dead: dict[int, str] = {}
    groups = list(_groups(batch))
    for group in groups:
        plan = _plan_for(group.header, kind, writer_schemas)
        if isinstance(plan, ReadingPlan):
            for rows, faults in _decoded(batch, group, plan, days):
                decoded.append(rows)
                dead.update(faults)
        else:
            dead.update(dict.fromkeys(group.positions.tolist(), plan))
    return raw_table(batch, kind, decoded, dead, _schema_id_column(len(batch), groups), days)


def schema_ids(batch: MessageBatch) -> frozenset[int]:
    """Return the ids of all writer schemas that a batch's headers name, without negative ones."""
    found = {schema_id_of(header) for header in batch.joined.headers if header is not None}
    return frozenset(each for each in found if each is not None and each >= 0)


def part_sizes(batch: MessageBatch, kind: MessageKind, writer_schemas: Mapping[int, WriterSchema]) -> list[int]:
    """Count the messages to decode at a time, so that their rows fit into memory: nearly always all of them.

    What makes rows much larger than their messages are fields that K2 does not know: each message of a few bytes gets
    their names as text. A part has more than ``MAX_TEXT_PER_PART`` only where it is a single message.

    Args:
        batch: The messages.
        kind: What they should be.
        writer_schemas: As for ``decode``.

    Returns:
        The lengths of the parts, in order; together that of the batch.
    """
    plans = {header: _plan_for(header, kind, writer_schemas) for header in batch.joined.headers}
    growing = {header: plan for header, plan in plans.items() if isinstance(plan, ReadingPlan) and plan.extra}
    if not growing:
        return [len(batch)]
    sizes = [0]
    text = 0.0
    for value in batch.joined:
        plan = None if value is None else growing.get(value[:HEADER_BYTES])
        more = 0.0 if plan is None or value is None else plan.fixed_text + plan.growth * len(value)
        if sizes[-1] and text + more > MAX_TEXT_PER_PART:
            sizes.append(0)
            text = 0.0
        sizes[-1] += 1
        text += more
    return sizes


def offsets_with_schema(batch: MessageBatch, schema_id: int) -> RangeSet:
    """Collect the offsets of the messages whose headers name a schema id."""
    header = frame(schema_id, b"")
    return RangeSet.of(
        OffsetRange(batch.topic_id, int(partition), int(offset), int(offset) + 1)
        for partition, offset, value in zip(batch.partitions, batch.offsets, batch.joined, strict=True)
        if value is not None and value.startswith(header)
    )


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


def _plan_for(header: bytes | None, kind: MessageKind, writer_schemas: Mapping[int, WriterSchema]) -> ReadingPlan | str:
    """Tell how messages with this header are read, or why none of them can be."""
    fault = framing_fault(header)  # says of a header what it says of the value: a short value is all header
    schema_id = None if fault or header is None else schema_id_of(header)
    if fault or schema_id is None:
        return fault or "no header"
    if schema_id not in writer_schemas:
        return f"unknown schema id {schema_id}"
    plan = reading_plan(schema_id, writer_schemas[schema_id], kind)
    return plan.reason if isinstance(plan, UnreadableSchema) else plan


def _decoded(
    batch: MessageBatch, group: _Group, plan: ReadingPlan, days: DayWindow
) -> Iterator[tuple[DecodedRows, Faults]]:
    """Yield a group's rows block by block, and why its other messages are none, by place in the batch."""
    read = message_reader(plan)
    length = max(1, MESSAGES_PER_BLOCK // (1 + len(plan.extra) // _FEW_FIELDS))
    for start in range(0, len(group.values), length):
        block = slice(start, start + length)
        positions = group.positions[block]
        found = read(group.values[block])
        resolved = resolve(found.wire, plan)
        row_positions = positions[found.places]
        refused = {
            **refusals(resolved.columns, days),
            **claimed_names(resolved.columns, batch.topic_id, partial(_place, batch, row_positions)),
            **resolved.faults,
        }
        keep = None
        if refused:
            keep = np.ones(found.wire.num_rows, np.bool_)
            keep[list(refused)] = False
        yield (
            DecodedRows(row_positions if keep is None else row_positions[keep], table_columns(resolved.columns, keep)),
            {
                **{int(positions[place]): reason for place, reason in found.faults.items()},
                **{int(row_positions[row]): reason for row, reason in refused.items()},
            },
        )


def _place(batch: MessageBatch, positions: Positions, row: int) -> tuple[int, int]:
    """Give a row's partition and offset."""
    return int(batch.partitions[positions[row]]), int(batch.offsets[positions[row]])


def _schema_id_column(count: int, groups: Sequence[_Group]) -> pa.Array:
    if len(groups) == 1:
        return pa.repeat(pa.scalar(groups[0].schema_id, pa.int32()), count)
    ids = np.zeros(count, np.int32)
    unreadable = np.zeros(count, np.bool_)
    for group in groups:
        unreadable[group.positions] = group.schema_id is None
        ids[group.positions] = group.schema_id or 0
    return pa.array(ids, mask=unreadable)
