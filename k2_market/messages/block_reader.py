"""Decodes many messages of one writer schema at once, as one Avro object container in memory.

Twenty to forty times as fast as one message at a time. What keeps a broken message from shifting its neighbours is the
guard of ``joined_values``, which the container's schema asks for after every body. A body that is too long or too short
moves the guard away from where it is looked for.

The reader beneath does not look whether an enum's index or the branch of a union with null is in range. So enums are
declared as numbers (``schema_resolution``), and unions get a third branch that no writer writes: of three branches the
reader does look, and says which one it was.

``polars_avro``'s public functions return Polars frames, and turning those into the Arrow tables that Iceberg is written
from takes longer than the reading. The reader beneath, ``AvroSource``, hands out Arrow as it is. It is private: the
version is pinned, and this module is the one place that knows of it, and of its three traps:

- Where a message too long leaves bytes in the block after its last row, a reader with room for another row in its
  batch looks for it for ever. So batches end exactly where the block does, and no batch after the last is asked for.
- It can't read unions of three branches beyond the first batch. So what is read for its rows is read in one batch.
- An iterator that is dropped while its error is on its way takes the error along. So iterators have names.
"""

import io
import json
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from polars_avro import AvroError
from polars_avro._avro_rs import AvroSource
from polars_avro._source import seekable_factory

from k2_market.messages.failing_messages import is_panic
from k2_market.messages.field_types import Form
from k2_market.messages.framing import HEADER_BYTES
from k2_market.messages.schema_resolution import ReadingPlan, WireField
from k2_market.messages.value_buffer import GUARD, GUARD_BYTES, JoinedValues

_GUARD_WORD = np.frombuffer(GUARD, dtype=np.uint64)[0]
_SYNC = secrets.token_bytes(16)
_STRAY_BRANCH = 2

_STEP = 16
"""Messages that a search looks at together: to find out which one it is would cost as much as to read them singly."""


class BlockReader:
    """Reads framed messages of one writer schema as one block.

    Args:
        plan: How the schema is read; ``in_blocks`` must hold.
    """

    def __init__(self, plan: ReadingPlan) -> None:
        if not plan.in_blocks:
            raise ValueError("this schema has a type that can't be read in blocks")
        self._schema = wire_schema(plan)
        self._head = _container_head(plan, stray_branches=True)
        self._search_head = _container_head(plan, stray_branches=False)

    def read(self, values: JoinedValues) -> pa.RecordBatch | None:
        """Return one row a message, typed as ``wire_schema``; None if any of them can't be read."""
        for batch in _batches(self._head, values, len(values)):
            if bool((_guards(batch) == _GUARD_WORD).all()):
                return self._rows(batch)
        return None

    def sound(self, values: JoinedValues) -> tuple[int, int]:
        """Tell how many messages at the start seem readable, and how many of those after are suspected not to be.

        Both may fall short of all messages: what is left has not been looked at. This looks at where messages end and
        not at what they hold: ``read`` may still refuse them. And suspects may turn out to be sound.
        """
        steps = len(values) // _STEP
        looked_at = values[: steps * _STEP]
        if not looked_at:
            return 0, len(values)
        found = 0
        for batch in _batches(self._search_head, looked_at, _STEP, ["guard"]):
            sound = _guards(batch) == _GUARD_WORD
            if not sound.all():
                return found + int(np.argmin(sound)), 1
            found += len(sound)
        return found, 0 if found == len(looked_at) else _STEP

    def _rows(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        columns = []
        for field in self._schema:
            column = _nullable(batch.column(field.name), field)
            if column is None:
                return None
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def wire_schema(plan: ReadingPlan) -> pa.Schema:
    """Return the columns that messages are read into before they become K2's: one for each of the writer's fields."""
    return pa.schema([pa.field(each.key, wire_type(each, known=each.name in plan.known)) for each in plan.fields])


def wire_type(wire: WireField, *, known: bool) -> pa.DataType:
    """Return the Arrow type of a field as it is read. A decimal that K2 does not know stays bytes."""
    if wire.type.form is Form.DECIMAL:
        return pa.decimal128(_WIDEST_DECIMAL, wire.type.scale) if known else pa.binary()
    if wire.type.form is Form.FIXED:
        return pa.binary(wire.type.size)
    return _ARROW_TYPES[wire.type.form]


_WIDEST_DECIMAL = 38

_ARROW_TYPES: dict[Form, pa.DataType] = {
    Form.TEXT: pa.string(),
    Form.LONG: pa.int64(),
    Form.TIMESTAMP: pa.int64(),
    Form.DATE: pa.int64(),
    Form.ENUM: pa.int64(),
    Form.OTHER_TIME: pa.int64(),
    Form.TEXT_LIST: pa.list_(pa.string()),
    Form.TEXT_MAP: pa.map_(pa.string(), pa.string()),
    Form.BOOLEAN: pa.bool_(),
    Form.FLOAT: pa.float32(),
    Form.DOUBLE: pa.float64(),
    Form.BYTES: pa.binary(),
    Form.OTHER: pa.string(),
}


def _batches(
    head: bytes, values: JoinedValues, rows_each: int, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a container of messages, up to the first that can't be read.

    Args:
        head: What the container starts with.
        values: The messages; their number is a multiple of ``rows_each``.
        rows_each: The rows of every batch.
        columns: All, or some.
    """
    body = values.body
    container = b"".join((head, _long(len(values)), _long(len(body)), body, _SYNC))
    reader: Iterator[Any] | None = None
    for _ in range(len(values) // rows_each):
        try:
            if reader is None:
                source = AvroSource([seekable_factory(io.BytesIO(container))], False, False)
                reader = source.batch_iter(rows_each, columns)
            batch = pa.record_batch(next(reader))
        except AvroError:
            return
        except StopIteration:
            return  # a message swallowed so many others that the bytes ended where a batch did
        except BaseException as error:
            if not is_panic(error):
                raise
            return  # whatever message caused it is fastavro's to judge
        if batch.num_rows != rows_each:
            return
        yield batch


def _guards(batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    guards = batch.column("guard")
    return np.frombuffer(guards.buffers()[1], dtype=np.uint64, count=len(guards), offset=guards.offset * GUARD_BYTES)


def _nullable(column: pa.Array, field: pa.Field) -> pa.Array | None:
    """Return a union of null and one type as a nullable column, any other as it is; None if a branch is no writer's."""
    if not pa.types.is_union(column.type):
        return column if column.type == field.type else column.cast(field.type)
    branches = column.type_codes.to_numpy()
    if (branches == _STRAY_BRANCH).any():
        return None
    branch = next(place for place in range(_STRAY_BRANCH) if not pa.types.is_null(column.type.field(place).type))
    present = branches == branch
    if not present.any():
        return pa.nulls(len(column), field.type)
    values = column.field(branch)
    if not present.all() or len(values) != len(column):
        values = values.take(pa.array(column.offsets.to_numpy(), mask=~present))
    return values if values.type == field.type else values.cast(field.type)


def _container_head(plan: ReadingPlan, *, stray_branches: bool) -> bytes:
    """Return all of a container before its block."""
    types = {each.key: _container_type(each, known=each.name in plan.known) for each in plan.fields}
    if stray_branches:
        for each in plan.fields:
            if each.type.nullable:
                types[each.key] = [*types[each.key], {"type": "fixed", "name": f"Stray_{each.key}", "size": 1}]
    fields = [
        {"name": "header", "type": {"type": "fixed", "name": "Header", "size": HEADER_BYTES}},
        *({"name": key, "type": avro_type} for key, avro_type in types.items()),
        {"name": "guard", "type": {"type": "fixed", "name": "Guard", "size": GUARD_BYTES}},
    ]
    schema = json.dumps({"type": "record", "name": "Message", "fields": fields}).encode()
    metadata = ((b"avro.codec", b"null"), (b"avro.schema", schema))
    entries = b"".join(_long(len(each)) + each for entry in metadata for each in entry)
    return b"Obj\x01" + _long(len(metadata)) + entries + _long(0) + _SYNC


def _container_type(wire: WireField, *, known: bool) -> Any:
    if not (known and wire.type.form is Form.DECIMAL):
        return wire.wire
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": _WIDEST_DECIMAL, "scale": wire.type.scale}
    return [each if each == "null" else decimal for each in wire.wire] if wire.type.nullable else decimal


def _long(number: int) -> bytes:
    """Return a non-negative number as Avro writes a long: zigzag, seven bits a byte, the lowest first."""
    rest = number << 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
