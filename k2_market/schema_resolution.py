"""How the fields of a writer's Avro schema become K2's: Avro's schema resolution, worked out once a schema.

A message carries the id of the schema it was written with, which may be older or newer than K2's own. The rules:

- A field of K2's that the writer lacks takes the default of K2's schema; without a default, no message of that
  schema can be read.
- A field of the writer's that K2 does not know is kept in ``attributes`` as text, under its own name, and wins over an
  attribute of that name. Integers keep their digits whatever they stand for, decimals are written out, booleans read
  ``true`` or ``false``, bytes are hexadecimal, enums their symbols, nested values JSON. Null is left out.
- ``int`` may stand for ``long``; a decimal may have fewer places than K2's (it is never rounded); a nullable field may
  stand for a required one as long as it is not null; a union's branches may come in any order.
- A symbol of a writer's enum that K2 does not know becomes the enum's default, where K2's schema has one.
- Any other difference of type makes the schema unreadable.

The schema that is then read with (the *wire* schema) knows no logical types, and has a long for each enum and int:
the same bytes, but what is out of range is seen and said instead of wrapped, rounded or raised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Any, cast

import fastavro

from k2_market.avro_schemas import AvroSchema, MessageKind, schema_of


class Form(StrEnum):
    """What a field's values are, as far as K2 tells them apart."""

    TEXT = "string"
    LONG = "long"
    TIMESTAMP = "timestamp-micros"
    DATE = "date"
    DECIMAL = "decimal"
    ENUM = "enum"
    TEXT_LIST = "array of string"
    TEXT_MAP = "map of string"
    BOOLEAN = "boolean"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    FIXED = "fixed"
    OTHER_TIME = "time in another unit"
    OTHER = "other"
    """Records, other arrays and maps, and unions of anything but null and one type: only fastavro reads these."""


@dataclass(frozen=True)
class FieldType:
    """A field's type.

    Attributes:
        form: What its values are.
        wire: The Avro type that it is read with.
        words: What an error calls it.
        nullable: Whether it is a union of null and this.
        symbols: An enum's.
        scale: A decimal's places.
        size: A fixed's bytes.
        branches: The types of a union of more than null and one type, null left out.
    """

    form: Form
    wire: Any
    words: str
    nullable: bool = False
    symbols: tuple[str, ...] = ()
    scale: int = 0
    size: int = 0
    branches: tuple["FieldType", ...] = ()


@dataclass(frozen=True)
class WireField:
    """One field of the writer's.

    Attributes:
        name: The writer's name for it.
        key: Its name in the wire schema, which can't clash with anything.
        type: Its type; where a wide union stands for a field of K2's, the branch that fits.
        wire: The Avro type that it is read with.
        symbols: What becomes of each symbol of an enum; None for one that K2 can't take.
        required: Whether it is a field of K2's that may not be null.
    """

    name: str
    key: str
    type: FieldType
    wire: Any
    symbols: tuple[str | None, ...] = ()
    required: bool = False

    @property
    def wide(self) -> bool:
        """Whether it may hold values of other types than ``type``, which are to be refused."""
        return bool(self.wire != self.type.wire)


@dataclass(frozen=True)
class ReadingPlan:
    """How messages of one writer schema are read.

    Attributes:
        kind: Trades or quotes.
        fields: All the writer's fields, in the order of the wire.
        known: Those that are K2's own, by name.
        extra: Those that K2 does not know, to be kept as attributes.
        defaults: Values of K2's fields that the writer lacks, by name.
        wire_schema: What fastavro reads with, parsed.
        in_blocks: Whether the block reader can read it too.
    """

    kind: MessageKind
    fields: tuple[WireField, ...]
    known: Mapping[str, WireField]
    extra: tuple[WireField, ...]
    defaults: Mapping[str, Any]
    wire_schema: AvroSchema = field(repr=False)
    in_blocks: bool


@dataclass(frozen=True)
class UnreadableSchema:
    """A writer schema none of whose messages can be read, and why; ``reason`` names the schema id."""

    reason: str


def reading_plan(schema_id: int, writer: object, kind: MessageKind) -> ReadingPlan | UnreadableSchema:
    """How messages of a writer schema are read as messages of a kind.

    Args:
        schema_id: The registry's id, for the reason.
        writer: The schema as the registry's JSON reads; whatever it is, this does not raise.
        kind: What the messages should be.
    """
    try:
        return _plan(_parsed(writer), kind)
    except _Unreadable as fault:
        return UnreadableSchema(f"schema id {schema_id} {fault}")


class _Unreadable(Exception):
    """Its text reads on from the words "schema id 7"."""


@dataclass(frozen=True)
class _ReaderField:
    type: FieldType
    has_default: bool
    default: Any
    symbol_default: str | None


@cache
def _reader_fields(kind: MessageKind) -> Mapping[str, _ReaderField]:
    types = _TypeReader()
    return {
        each["name"]: _ReaderField(
            type=types.type_of(each["type"]),
            has_default="default" in each,
            default=each.get("default"),
            symbol_default=each["type"].get("default") if isinstance(each["type"], dict) else None,
        )
        for each in _parsed(schema_of(kind))["fields"]
    }


def _parsed(writer: object) -> AvroSchema:
    try:
        parsed = fastavro.parse_schema(cast(AvroSchema, writer))
    except Exception as error:  # a registry may hold anything, and fastavro answers with any of a dozen errors
        raise _Unreadable(f"is not valid Avro ({type(error).__name__})") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise _Unreadable("is not a record")
    return parsed


def _wire_schema(fields: list[WireField]) -> AvroSchema:
    wire = {"type": "record", "name": "Message", "fields": [{"name": each.key, "type": each.wire} for each in fields]}
    return cast(AvroSchema, fastavro.parse_schema(wire))


def _plan(writer: AvroSchema, kind: MessageKind) -> ReadingPlan:
    readers = _reader_fields(kind)
    names = [each["name"] for each in writer["fields"]]
    lacking = [name for name, reader in readers.items() if name not in names and not reader.has_default]
    if len(set(names)) < len(names):
        raise _Unreadable(f"({writer['name']}) has two fields of one name")
    if lacking:
        raise _Unreadable(f"({writer['name']}) lacks {', '.join(lacking)}")
    types, nested_types = _TypeReader(), _TypeReader(keep_enums=True)
    fields, misfits = [], []
    for position, each in enumerate(writer["fields"]):
        found, nested = types.type_of(each["type"]), nested_types.type_of(each["type"])
        reader = readers.get(each["name"])
        if found.form is Form.OTHER and not reader:
            found = nested
        written = WireField(each["name"], f"f{position}", found, found.wire, found.symbols)
        fitted = _fitted(written, reader) if reader else written
        if fitted:
            fields.append(fitted)
        elif reader:
            misfits.append(f"{written.name} is {found.words}, expected {reader.type.words}")
    if misfits:
        raise _Unreadable(f"({writer['name']}): {'; '.join(misfits)}")
    return ReadingPlan(
        kind=kind,
        fields=tuple(fields),
        known={each.name: each for each in fields if each.name in readers},
        extra=tuple(each for each in fields if each.name not in readers),
        defaults={name: reader.default for name, reader in readers.items() if name not in names},
        wire_schema=_wire_schema(fields),
        in_blocks=not any(each.wide or each.type.form is Form.OTHER for each in fields),
    )


def _fitted(written: WireField, reader: _ReaderField) -> WireField | None:
    """The writer's field as one of K2's; None where the types don't go together."""
    candidates = written.type.branches or (written.type,)
    fitting = [each for each in candidates if _fits(each, reader.type)]
    if not fitting:
        return None
    found = fitting[0]
    others = [each for each in candidates if not _fits(each, reader.type)]
    if any(python_type(each) is python_type(found) for each in others) or len({each.scale for each in fitting}) > 1:
        return None  # a value of this union would not tell which of its branches it came from
    known = set(reader.type.symbols)
    symbols = tuple(each if each in known else reader.symbol_default for each in found.symbols)
    return replace(written, type=found, symbols=symbols, required=not reader.type.nullable)


def _fits(written: FieldType, reader: FieldType) -> bool:
    return written.form is reader.form and written.scale <= reader.scale


def python_type(field_type: FieldType) -> type | None:
    """What fastavro returns for a value read with the wire type; None where that may vary."""
    return _PYTHON_TYPES.get(field_type.form)


_PYTHON_TYPES: Mapping[Form, type] = {
    Form.TEXT: str,
    Form.LONG: int,
    Form.TIMESTAMP: int,
    Form.DATE: int,
    Form.DECIMAL: bytes,
    Form.ENUM: int,
    Form.TEXT_LIST: list,
    Form.TEXT_MAP: dict,
    Form.BOOLEAN: bool,
    Form.FLOAT: float,
    Form.DOUBLE: float,
    Form.BYTES: bytes,
    Form.FIXED: bytes,
    Form.OTHER_TIME: int,
}


_PRIMITIVES: Mapping[str, tuple[Form, str]] = {
    "string": (Form.TEXT, "string"),
    "int": (Form.LONG, "long"),
    "long": (Form.LONG, "long"),
    "boolean": (Form.BOOLEAN, "boolean"),
    "float": (Form.FLOAT, "float"),
    "double": (Form.DOUBLE, "double"),
    "bytes": (Form.BYTES, "bytes"),
}
_TIMES: Mapping[tuple[str, str], Form] = {("long", "timestamp-micros"): Form.TIMESTAMP, ("int", "date"): Form.DATE}
_OTHER_TIMES = frozenset(
    f"{local}timestamp-{unit}" for local in ("", "local-") for unit in ("millis", "micros", "nanos")
) | {"time-millis", "time-micros"}
"""Logical types of integers that mean another instant than K2's; none may be taken for a plain number."""


class _TypeReader:
    """Turns parsed Avro types into ``FieldType``s; remembers the named types that it has seen.

    Args:
        keep_enums: Leave enums what they are, so that fastavro returns their symbols; otherwise they become longs.
    """

    def __init__(self, *, keep_enums: bool = False) -> None:
        self._keep_enums = keep_enums
        self._named: dict[str, Any] = {}
        self._open: list[str] = []
        self._names_given = 0

    def type_of(self, avro: Any) -> FieldType:
        """The field type of an Avro type."""
        if isinstance(avro, list):
            return self._union(avro)
        if isinstance(avro, str):
            return self._named_or_primitive(avro, {})
        kind = avro["type"]
        if kind == "enum":
            self._named[avro["name"]] = avro
            return self._enum(avro)
        if kind == "fixed":
            self._named[avro["name"]] = avro
            return self._fixed(avro)
        if kind in ("array", "map"):
            return self._collection(avro)
        if kind in ("record", "error"):
            return self._record(avro)
        return self._named_or_primitive(kind, avro) if isinstance(kind, str) else self.type_of(kind)

    def _named_or_primitive(self, name: str, avro: AvroSchema) -> FieldType:
        if name in self._open:
            raise _Unreadable(f"is recursive in {name}")
        if name in self._named:
            return self.type_of(self._named[name])
        if name == "null":
            return FieldType(Form.OTHER, "null", "null")
        form, wire = _PRIMITIVES[name]
        logical = str(avro.get("logicalType", ""))
        if logical == "decimal" and name == "bytes":
            precision, scale = avro["precision"], avro.get("scale", 0)
            return FieldType(Form.DECIMAL, wire, f"decimal({precision}, {scale})", scale=scale)
        if form is Form.LONG and (name, logical) in _TIMES:
            return FieldType(_TIMES[name, logical], wire, logical)
        if form is Form.LONG and logical in _OTHER_TIMES:
            return FieldType(Form.OTHER_TIME, wire, logical)
        return FieldType(form, wire, name)

    def _union(self, branches: list[Any]) -> FieldType:
        types = [None if each == "null" else self.type_of(each) for each in branches]
        present = [each for each in types if each]
        wire = ["null" if each is None else each.wire for each in types]
        if len(present) == 1 and len(types) == 2 and present[0].form is not Form.OTHER:
            return replace(present[0], wire=wire, nullable=True)
        words = " or ".join("null" if each is None else each.words for each in types)
        return FieldType(Form.OTHER, wire, words, branches=tuple(present))

    def _collection(self, avro: AvroSchema) -> FieldType:
        kind, part = ("array", "items") if avro["type"] == "array" else ("map", "values")
        inner = self.type_of(avro[part])
        if kind == "array" and _takes_no_bytes(inner.wire):
            raise _Unreadable("has an array of values that take no bytes")  # a count of 2**60 would be read for years
        wire = {"type": kind, part: inner.wire}
        text = inner.form is Form.TEXT and not inner.nullable
        form = (Form.TEXT_LIST if kind == "array" else Form.TEXT_MAP) if text else Form.OTHER
        words = f"{kind} of {'nullable ' if inner.nullable else ''}{inner.words}"
        return FieldType(form, wire, words)

    def _record(self, avro: AvroSchema) -> FieldType:
        name = avro["name"]
        self._named[name] = avro
        self._open.append(name)
        fields = [{"name": each["name"], "type": self.type_of(each["type"]).wire} for each in avro["fields"]]
        self._open.pop()
        return FieldType(Form.OTHER, {"type": "record", "name": self._new_name(), "fields": fields}, f"record {name}")

    def _enum(self, avro: AvroSchema) -> FieldType:
        symbols = tuple(avro["symbols"])
        kept = {"type": "enum", "name": self._new_name(), "symbols": list(symbols)}
        return FieldType(Form.ENUM, kept if self._keep_enums else "long", "enum", symbols=symbols)

    def _fixed(self, avro: AvroSchema) -> FieldType:
        size = avro["size"]
        form = Form.FIXED if size else Form.OTHER
        return FieldType(form, {"type": "fixed", "name": self._new_name(), "size": size}, f"fixed({size})", size=size)

    def _new_name(self) -> str:
        self._names_given += 1
        return f"{'s' if self._keep_enums else 'n'}{self._names_given}"


def _takes_no_bytes(wire: Any) -> bool:
    if wire == "null":
        return True
    if isinstance(wire, dict):
        if wire["type"] == "record":
            return all(_takes_no_bytes(each["type"]) for each in wire["fields"])
        return bool(wire["type"] == "fixed" and wire["size"] == 0)
    return False
