"""Resolves a writer's Avro schema against K2's, once a schema, by Avro's rules.

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

A schema that would take more time or memory than any market needs is unreadable, too (``schema_limits``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

import fastavro

from k2_market.messages.field_types import FieldType, Form, TypeReader, Unreadable, python_type, refuse_long_name
from k2_market.messages.schema_limits import MAX_FIXED_TEXT, size_fault
from k2_market.messages.writer_schemas import ReferringSchema, UnusableSchema, WriterSchema
from k2_market.schemas.avro import AvroSchema
from k2_market.schemas.message_kinds import MessageKind

__all__ = ["Form", "ReadingPlan", "UnreadableSchema", "WireField", "python_type", "reading_plan"]


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
        """Say whether it may hold values of other types than ``type``, which are to be refused."""
        return bool(self.wire != self.type.wire)


@dataclass(frozen=True)
class ReadingPlan:
    """Describes how messages of one writer schema are read.

    Attributes:
        kind: What they are read as.
        fields: All the writer's fields, in the order of the wire.
        known: Those that are K2's own, by name.
        extra: Those that K2 does not know, to be kept as attributes.
        defaults: Values of K2's fields that the writer lacks, by name.
        wire_schema: What fastavro reads with, parsed.
        in_blocks: Whether the block reader can read it too.
        fixed_text: Characters that the extra fields of a message take as attributes, whatever they hold; at most.
        growth: Characters of attributes that a byte of a message becomes; at most.
    """

    kind: MessageKind
    fields: tuple[WireField, ...]
    known: Mapping[str, WireField]
    extra: tuple[WireField, ...]
    defaults: Mapping[str, Any]
    wire_schema: AvroSchema = field(repr=False)
    in_blocks: bool
    fixed_text: int
    growth: float


@dataclass(frozen=True)
class UnreadableSchema:
    """A writer schema none of whose messages can be read, and why; ``reason`` names the schema id."""

    reason: str


def reading_plan(schema_id: int, writer: WriterSchema, kind: MessageKind) -> ReadingPlan | UnreadableSchema:
    """Tell how messages of a writer schema are read as messages of a kind.

    Args:
        schema_id: The registry's id, for the reason.
        writer: What the registry has under the id; whatever it is, this does not raise.
        kind: What the messages should be.
    """
    try:
        return _plan(*_parsed(writer), kind)
    except Unreadable as fault:
        return UnreadableSchema(f"schema id {schema_id} {fault}")
    except Exception as error:  # no schema may stop those that read the others' messages
        return UnreadableSchema(f"schema id {schema_id} can't be used: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class _ReaderField:
    type: FieldType
    has_default: bool
    default: Any
    symbol_default: str | None


@cache
def _reader_fields(kind: MessageKind) -> Mapping[str, _ReaderField]:
    schema, _ = _parsed(kind.avro)
    types = TypeReader({})
    return {
        each["name"]: _ReaderField(
            type=types.type_of(each["type"]),
            has_default="default" in each,
            default=each.get("default"),
            symbol_default=each["type"].get("default") if isinstance(each["type"], dict) else None,
        )
        for each in schema["fields"]
    }


def _parsed(writer: WriterSchema) -> tuple[AvroSchema, Mapping[str, Any]]:
    """Parse a writer's schema by fastavro, with the named types of the schemas that it refers to."""
    if isinstance(writer, UnusableSchema):
        raise Unreadable(writer.reason)
    schema, references = (writer.schema, writer.references) if isinstance(writer, ReferringSchema) else (writer, ())
    fault = size_fault([schema, *references])
    if fault:
        raise Unreadable(fault)
    referred_to: dict[str, Any] = {}
    try:
        for each in references:
            fastavro.parse_schema(each, referred_to)
        parsed = fastavro.parse_schema(cast(AvroSchema, schema), dict(referred_to))
    except Exception as error:  # a registry may hold anything, and fastavro answers with any of a dozen errors
        raise Unreadable(f"is not valid Avro ({_explained(error)})") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise Unreadable("is not a record")
    return parsed, referred_to


def _explained(error: Exception) -> str:
    if isinstance(error, fastavro.schema.UnknownType):
        return f"there is no type {error.name}"
    return type(error).__name__


def _wire_schema(fields: list[WireField]) -> AvroSchema:
    wire = {"type": "record", "name": "Message", "fields": [{"name": each.key, "type": each.wire} for each in fields]}
    return cast(AvroSchema, fastavro.parse_schema(wire))


def _plan(writer: AvroSchema, referred_to: Mapping[str, Any], kind: MessageKind) -> ReadingPlan:
    readers = _reader_fields(kind)
    names = [each["name"] for each in writer["fields"]]
    lacking = [name for name, reader in readers.items() if name not in names and not reader.has_default]
    if len(set(names)) < len(names):
        raise Unreadable(f"({writer['name']}) has two fields of one name")
    if lacking:
        raise Unreadable(f"({writer['name']}) lacks {', '.join(lacking)}")
    types, nested_types = TypeReader(referred_to), TypeReader(referred_to, keep_enums=True)
    fields, misfits = [], []
    for position, each in enumerate(writer["fields"]):
        found, nested = types.type_of(each["type"]), nested_types.type_of(each["type"])
        refuse_long_name(each["name"])
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
        raise Unreadable(f"({writer['name']}): {'; '.join(misfits)}")
    extra = tuple(each for each in fields if each.name not in readers)
    fixed_text = sum(len(each.name) + int(each.type.text.fixed) for each in extra)
    if fixed_text > MAX_FIXED_TEXT:
        raise Unreadable(f"has new fields that take {fixed_text:,} characters as text, at most {MAX_FIXED_TEXT:,}")
    return ReadingPlan(
        kind=kind,
        fields=tuple(fields),
        known={each.name: each for each in fields if each.name in readers},
        extra=extra,
        defaults={name: reader.default for name, reader in readers.items() if name not in names},
        wire_schema=_wire_schema(fields),
        in_blocks=not any(each.wide or each.type.form is Form.OTHER for each in fields),
        fixed_text=fixed_text,
        growth=max((each.type.text.growth for each in extra), default=0.0),
    )


def _fitted(written: WireField, reader: _ReaderField) -> WireField | None:
    """Return the writer's field as one of K2's; None where the types don't go together."""
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
