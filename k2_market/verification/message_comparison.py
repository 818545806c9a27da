"""Verifies I5: each row says what its message says, decoded by fastavro, one at a time.

It is slow, tens of thousands of messages a second, and shares nothing with the block decoder that wrote the rows: a row
that stands at its neighbour's offset, or that was decoded wrongly, differs here. A dead letter must hold its message's
own bytes. ``attributes`` are left out for writers that have fields which K2 does not know, since those go there too.
"""

import io
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, cast

import fastavro
import polars as pl
import pyarrow as pa

from k2_market.messages.batch import MessageBatch, Numbers
from k2_market.messages.writer_schemas import ReferringSchema, UnusableSchema, WriterSchema
from k2_market.schemas.avro import AvroSchema
from k2_market.schemas.message_kinds import MessageKind
from k2_market.verification.invariants import MAX_PLACES

MESSAGES_AT_A_TIME = 20_000
"""As many decoded messages are held at once."""

_HEADER = struct.Struct(">bi")
_EPOCH = date(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_SHOWN = 120
_END_OF_TIME_MS = 9_214_646_400_000
"""2262-01-01: a record timestamp from there on is not kept."""

_WITHOUT_SPACE = frozenset({"trade_id", "symbol", "exchange", "currency", "corrects_trade_id"})
"""The texts that rows have without the white space around them."""
_OFFSET = ("kafka_partition", "kafka_offset")
_ORIGIN = ("kafka_timestamp", "schema_id", "correlation_id", "kafka_key")

_OF_KAFKA = ("kafka_topic_id", *_OFFSET, *_ORIGIN, "reject_reason", "payload")
_TAKEN_APART = frozenset({"side", "conditions", "attributes"})
"""Columns that are no plain text or number."""


@dataclass(frozen=True)
class ComparedColumns:
    """Sorts a raw table's columns by how they are compared with messages.

    Attributes:
        defaults: Each field of a message, and what it is where a writer lacks it.
        texts: Columns of plain texts.
        numbers: Those of whole numbers, instants and days.
        places: Those of decimals, with their places.
        lists: Columns that are neither, but ``attributes``.
    """

    defaults: Mapping[str, Any]
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    places: Mapping[str, int]
    lists: tuple[str, ...]

    @classmethod
    def of(cls, kind: MessageKind) -> "ComparedColumns":
        """Sort the columns that messages of a kind are decoded into."""
        defaults = {each["name"]: each.get("default") for each in kind.avro["fields"]}
        plain = [kind.rows.field(name) for name in defaults if name not in _TAKEN_APART]
        decimals = {each.name: each.type.scale for each in plain if pa.types.is_decimal(each.type)}
        texts = tuple(each.name for each in plain if pa.types.is_string(each.type))
        return cls(
            defaults=defaults,
            texts=texts,
            numbers=tuple(each.name for each in plain if each.name not in {*texts, *decimals}),
            places=decimals,
            lists=tuple(name for name in defaults if name in _TAKEN_APART - {"attributes"}),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """List the columns that rows must have to be compared."""
        return *_OF_KAFKA, *self.texts, *self.numbers, *self.places, *self.lists, "attributes"


@dataclass(frozen=True)
class Difference:
    """A row that does not say what its message says."""

    topic_id: str
    partition: int
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}@{self.offset}: {self.what}"


@dataclass
class Comparison:
    """Describes what came of comparing so far.

    Attributes:
        columns: Those that are compared.
        compared: Rows that were held against their message.
        differing: How many of them differ from it.
        examples: The first of these, ``MAX_PLACES`` at most.
    """

    columns: ComparedColumns
    compared: int = 0
    differing: int = 0
    examples: list[Difference] = field(default_factory=list)

    def add(self, messages: MessageBatch, rows: pl.DataFrame, schemas: Mapping[int, WriterSchema]) -> None:
        """Hold rows of one topic against messages of it: what they say, and when and by whom they were sent.

        Args:
            messages: The messages.
            rows: The columns of some rows; those whose message is not among ``messages`` are passed over.
            schemas: What the registry has under each id.
        """
        matched = _matched(messages.partitions, messages.offsets, rows)
        for part in matched.iter_slices(MESSAGES_AT_A_TIME):
            self._enter(part, [*_content(part, messages.values, schemas, self.columns), *_origin(part, messages)])

    def add_content(
        self,
        partitions: Sequence[int],
        offsets: Sequence[int],
        values: Sequence[bytes | None],
        rows: pl.DataFrame,
        schemas: Mapping[int, WriterSchema],
    ) -> None:
        """As ``add``, where of the messages nothing but their values is known."""
        for part in _matched(partitions, offsets, rows).iter_slices(MESSAGES_AT_A_TIME):
            self._enter(part, _content(part, values, schemas, self.columns))

    def _enter(self, part: pl.DataFrame, complaints: list["_Complaint"]) -> None:
        self.compared += part.height
        if not complaints:
            return
        by_row: dict[int, list[_Complaint]] = {}
        for each in complaints:
            by_row.setdefault(each.row, []).append(each)
        self.differing += len(by_row)
        for row in sorted(by_row)[: MAX_PLACES - len(self.examples)]:
            topic_id, partition, offset = part.select("kafka_topic_id", *_OFFSET).row(row)
            self.examples.append(
                Difference(
                    topic_id, partition, offset, "; ".join(each.text(self.columns.places) for each in by_row[row])
                )
            )


@dataclass(frozen=True)
class _Complaint:
    """Says what is wrong with one row of a part; ``text`` is made when it is shown."""

    row: int
    column: str
    found: Any
    expected: Any

    def text(self, places: Mapping[str, int]) -> str:
        if not self.column:
            return str(self.expected)
        found, expected = _shown(self.column, self.found, places), _shown(self.column, self.expected, places)
        return f"{self.column} is {found}, its message says {expected}"


def _shown(column: str, value: Any, places: Mapping[str, int]) -> str:
    """Return a value as a person reads it; whole numbers as what they stand for, where that exists."""
    try:
        if isinstance(value, int) and column in places:
            return f"{Decimal(value).scaleb(-places[column]).normalize():f}"
        if isinstance(value, int) and column.endswith("_timestamp"):
            return (_EPOCH_UTC + timedelta(microseconds=value)).isoformat()
        if isinstance(value, int) and column == "trade_date":
            return (_EPOCH + timedelta(days=value)).isoformat()
    except OverflowError:
        return str(value)
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def trading_days(values: Sequence[bytes | None], schemas: Mapping[int, WriterSchema]) -> list[date | None]:
    """Return the trading day that each message says it belongs to; None where it says none that can be read."""
    writers = {}
    for schema_id in schema_ids(values) & schemas.keys():
        with suppress(Exception):  # a schema that no message can be read with tells no day
            writers[schema_id] = _Writer.of(schemas[schema_id])
    return [_trading_day(value, writers) for value in values]


def _trading_day(value: bytes | None, writers: Mapping[int, "_Writer"]) -> date | None:
    writer = writers.get(_schema_id(value[: _HEADER.size]) or 0) if value else None
    if writer is None or value is None:
        return None
    try:
        return _EPOCH + timedelta(days=writer.read(value)["trade_date"])
    except Exception:  # whatever is wrong with it, it says no day
        return None


def schema_ids(values: Iterable[bytes | None]) -> set[int]:
    """Return the schema ids that the headers of some values name."""
    headers = {value[: _HEADER.size] for value in values if value}
    return {found for header in headers if (found := _schema_id(header)) is not None and found >= 0}


def _matched(partitions: Numbers, offsets: Numbers, rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows beside the place of their message."""
    of_messages = pl.DataFrame(
        {"kafka_partition": partitions, "kafka_offset": offsets},
        schema={"kafka_partition": pl.Int32, "kafka_offset": pl.Int64},
    )
    return rows.join(of_messages.with_row_index("place"), on=_OFFSET, how="inner")


def _content(
    part: pl.DataFrame,
    values: Sequence[bytes | None],
    schemas: Mapping[int, WriterSchema],
    columns: ComparedColumns,
) -> list[_Complaint]:
    """Tell where rows do not say what their messages' values say."""
    own = [values[place] for place in part["place"]]
    dead = part["reject_reason"].is_not_null()
    complaints: list[_Complaint] = []
    payload = pl.Series("payload", own, pl.Binary).to_frame().select(pl.when(dead).then("payload")).to_series()
    complaints += _unequal("payload", part["payload"], payload)
    by_header: dict[bytes, list[int]] = {}
    for row in dead.not_().arg_true():
        value = own[row]
        if value is None:
            complaints.append(_Complaint(row, "", None, "it was decoded, and its message has no value"))
        else:
            by_header.setdefault(value[: _HEADER.size], []).append(row)
    for header, positions in by_header.items():
        complaints += _decoded(part, positions, [own[row] or b"" for row in positions], header, schemas, columns)
    return complaints


def _decoded(
    part: pl.DataFrame,
    positions: list[int],
    values: list[bytes],
    header: bytes,
    schemas: Mapping[int, WriterSchema],
    columns: ComparedColumns,
) -> Iterator[_Complaint]:
    """Tell where rows of one writer schema differ from what fastavro decodes."""
    schema_id = _schema_id(header)
    if schema_id is None or schema_id not in schemas:
        for row in positions:
            yield _Complaint(row, "", None, f"it was decoded, and its message has no known schema: {header.hex()}")
        return
    try:
        writer = _Writer.of(schemas[schema_id])
    except Exception as error:
        for row in positions:
            yield _Complaint(row, "", None, f"it was decoded, and its schema {schema_id} can't be used: {error!r}")
        return
    sound: list[int] = []
    records: list[dict[str, Any]] = []
    for row, value in zip(positions, values, strict=True):
        try:
            records.append(writer.read(value))
            sound.append(row)
        except Exception as error:  # one message, and fastavro promises nothing about what it raises
            yield _Complaint(row, "", None, f"it was decoded, and fastavro can't decode its message: {error!r}")
    rows = part[sound]
    for column, expected in writer.columns(records, columns):
        for each in _unequal(column, _plain(rows[column]), expected):
            yield _Complaint(sound[each.row], column, each.found, each.expected)
    if writer.fields <= columns.defaults.keys():
        for number, (found, told) in enumerate(zip(rows["attributes"], writer.attributes(records), strict=True)):
            if found != told:
                yield _Complaint(sound[number], "attributes", found, told)


def _origin(part: pl.DataFrame, messages: MessageBatch) -> Iterator[_Complaint]:
    """Tell where rows do not say when, with which schema and under which key their messages were sent."""
    places = part["place"].to_list()
    instants = [messages.timestamps_ms[place] for place in places]
    headers = [value and value[: _HEADER.size] for value in (messages.values[place] for place in places)]
    dead = part["reject_reason"].is_not_null().to_list()
    told: dict[str, list[Any]] = {
        "kafka_timestamp": [each * 1000 if 0 <= each < _END_OF_TIME_MS else None for each in instants],
        "schema_id": [_schema_id(each) if each else None for each in headers],
        "correlation_id": [messages.correlation_ids[place] for place in places],
        "kafka_key": [messages.keys[place] if is_dead else None for place, is_dead in zip(places, dead, strict=True)],
    }
    for column, values in told.items():
        found = _plain(part[column])
        yield from _unequal(column, found, pl.Series(column, values, found.dtype, strict=False))


def _schema_id(header: bytes) -> int | None:
    if len(header) < _HEADER.size:
        return None
    magic, schema_id = _HEADER.unpack(header)
    return int(schema_id) if magic == 0 else None


def _plain(column: pl.Series) -> pl.Series:
    """Return a column's instants, dates and decimals as the whole numbers that they are made of."""
    if column.dtype.is_temporal():
        return column.to_physical().cast(pl.Int64)
    if column.dtype.is_decimal():
        return column.reinterpret(dtype=pl.Int128).cast(pl.Int64)
    return column


def _unequal(column: str, found: pl.Series, expected: pl.Series) -> Iterator[_Complaint]:
    for row in found.ne_missing(expected).arg_true():
        yield _Complaint(row, column, found[row], expected[row])


@dataclass(frozen=True)
class _Writer:
    """A writer schema as fastavro reads it here: without logical types, so that whole numbers stay what they are."""

    schema: AvroSchema
    types: Mapping[str, Any]

    @classmethod
    def of(cls, registered: WriterSchema) -> "_Writer":
        """Make the writer with a schema as the registry has it.

        Raises:
            Exception: It is none that a message can be read with.
        """
        if isinstance(registered, UnusableSchema):
            raise ValueError(registered.reason)
        schema, named = registered, dict[str, Any]()
        if isinstance(registered, ReferringSchema):
            schema = registered.schema
            for each in registered.references:
                fastavro.parse_schema(_without_logical_types(each), named)
        fields = {each["name"]: each["type"] for each in schema["fields"]}
        return cls(
            schema=cast(AvroSchema, fastavro.parse_schema(_without_logical_types(schema), named)),
            types=fields,
        )

    @property
    def fields(self) -> Set[str]:
        """Name its fields."""
        return self.types.keys()

    def read(self, value: bytes) -> dict[str, Any]:
        """Return one message."""
        body = io.BytesIO(value)
        body.seek(_HEADER.size)
        record = cast(dict[str, Any], fastavro.schemaless_reader(body, self.schema, None))
        if body.tell() != len(value):
            raise ValueError(f"{len(value) - body.tell()} bytes are left after the record")
        return record

    def columns(self, records: list[dict[str, Any]], compared: ComparedColumns) -> Iterator[tuple[str, pl.Series]]:
        """Give what the rows of some messages must hold, column by column, in ``_plain`` numbers."""
        column = partial(self._column, records, compared.defaults)
        for name in compared.texts:
            yield name, column(name, pl.String, _without_space_around if name in _WITHOUT_SPACE else None)
        for name in compared.numbers:
            yield name, column(name, pl.Int64)
        for name, places in compared.places.items():
            yield name, column(name, pl.Int64, self._units(name, places))
        for name in compared.lists:
            of_side = name == "side"
            yield name, column(name, *((pl.String, _known_side) if of_side else (pl.List(pl.String), _codes)))

    def attributes(self, records: list[dict[str, Any]]) -> list[dict[str, str] | None]:
        """Return the attributes that the messages say."""
        return [record.get("attributes") for record in records]

    def _column(
        self,
        records: list[dict[str, Any]],
        defaults: Mapping[str, Any],
        name: str,
        kind: pl.DataType | type[pl.DataType],
        made: Callable[[Any], Any] | None = None,
    ) -> pl.Series:
        if name not in self.fields:
            return pl.Series(name, [defaults[name]] * len(records), kind)
        told = [record[name] for record in records]
        if made is not None:
            told = [None if each is None else made(each) for each in told]
        # What is of another type, or too large, becomes null, and so differs from whatever a row holds.
        return _texts_of_rows(told) if isinstance(kind, pl.List) else pl.Series(name, told, kind, strict=False)

    def _units(self, name: str, places: int) -> Callable[[Any], int]:
        factor = 10 ** (places - _scale(self.types[name])) if name in self.types else 1
        return lambda digits: int.from_bytes(digits, "big", signed=True) * factor


def _codes(said: list[str] | None) -> list[str] | None:
    """Take condition codes apart as rows have them."""
    return None if said is None else [code for each in said for code in _BETWEEN_CODES.split(each) if code]


def _without_space_around(said: str) -> str:
    return said.strip(_SPACE)


_SPACE = "".join(map(chr, (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C)))) + (
    "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_BETWEEN_CODES = re.compile("[" + re.escape(_SPACE + ",;|/\\:+&\uff0c\u3001\uff1b\uff5c") + "]+")
_SIDES = frozenset({"BUY", "SELL", "SELL_SHORT", "UNKNOWN"})


def _texts_of_rows(told: list[Any]) -> pl.Series:
    """Lists of texts; much quicker than Polars makes them of Python lists."""
    try:
        return pl.Series(pl.from_arrow(pa.array(told, pa.list_(pa.string()))))
    except pa.ArrowException:
        return pl.Series([None] * len(told), dtype=pl.List(pl.String))


def _known_side(said: str) -> str:
    return said if said in _SIDES else "UNKNOWN"


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_logical_types(each) for key, each in schema.items() if key != "logicalType"}
    return [_without_logical_types(each) for each in schema] if isinstance(schema, list) else schema


def _scale(avro: Any) -> int:
    """Return the places of a decimal's type, or of the decimal in a union."""
    branches = avro if isinstance(avro, list) else [avro]
    return next((int(each.get("scale", 0)) for each in branches if isinstance(each, dict)), 0)
