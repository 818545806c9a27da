"""Describes the types of an Avro schema's fields, as far as K2 tells them apart, and how large values may become."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from k2_market.messages import text_sizes
from k2_market.messages.schema_limits import MAX_DEPTH, MAX_GROWTH, MAX_NAME_CHARACTERS, MAX_TYPES
from k2_market.messages.text_sizes import TextSize
from k2_market.schemas.avro import AvroSchema


class Unreadable(Exception):
    """Says why no message can be read with a schema, in words that read on from "schema id 7"."""


class Form(StrEnum):
    """Names the kinds of fields' values, as far as K2 tells them apart."""

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
    """Describes a field's type.

    Attributes:
        form: What its values are.
        wire: The Avro type that it is read with.
        words: What an error calls it.
        nullable: Whether it is a union of null and this.
        symbols: An enum's.
        scale: A decimal's places.
        size: A fixed's bytes.
        branches: The types of a union of more than null and one type, null left out.
        text: How long its values' text can be.
    """

    form: Form
    wire: Any
    words: str
    nullable: bool = False
    symbols: tuple[str, ...] = ()
    scale: int = 0
    size: int = 0
    branches: tuple["FieldType", ...] = ()
    text: TextSize = text_sizes.TEXT


def refuse_long_name(name: str) -> None:
    """Refuse a field with a name of no sensible length.

    Raises:
        Unreadable: It has not.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        raise Unreadable(f"has a name of {len(name):,} characters, at most {MAX_NAME_CHARACTERS}")


def python_type(field_type: FieldType) -> type | None:
    """Give the Python type of a value that fastavro reads with the wire type; None where that may vary."""
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


_LARGEST_FIXED = 2**31 - 1
_LARGEST_FIXED_IN_BLOCKS = 65_536
"""The block reader takes memory for some thousand values before it has seen one."""

_TEXT_SIZES: Mapping[Form, TextSize] = {
    Form.TEXT: text_sizes.TEXT,
    Form.LONG: text_sizes.LONG,
    Form.BOOLEAN: text_sizes.BOOLEAN,
    Form.FLOAT: text_sizes.FLOAT,
    Form.DOUBLE: text_sizes.DOUBLE,
    Form.BYTES: text_sizes.BYTES,
}


class TypeReader:
    """Turns parsed Avro types into ``FieldType``s; remembers the named types that it has seen.

    Args:
        referred_to: Named types that the schema may refer to without having them itself.
        keep_enums: Leave enums what they are, so that fastavro returns their symbols; otherwise they become longs.
    """

    def __init__(self, referred_to: Mapping[str, Any], *, keep_enums: bool = False) -> None:
        self._keep_enums = keep_enums
        self._named: dict[str, Any] = dict(referred_to)
        self._open: list[str] = []
        self._names_given = 0
        self._types = 0
        self._depth = 0

    def type_of(self, avro: Any) -> FieldType:
        """Make the field type of an Avro type."""
        self._types += 1
        if self._types > MAX_TYPES:
            raise Unreadable(f"has more than {MAX_TYPES:,} types, where each reference to one counts")
        if self._depth == MAX_DEPTH:
            raise Unreadable(f"has types nested more than {MAX_DEPTH} deep")
        self._depth += 1
        found = self._type_of(avro)
        self._depth -= 1
        return found

    def _type_of(self, avro: Any) -> FieldType:
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
            raise Unreadable(f"is recursive in {name}")
        if name in self._named:
            return self.type_of(self._named[name])
        if name == "null":
            return FieldType(Form.OTHER, "null", "null", text=text_sizes.NULL)
        form, wire = _PRIMITIVES[name]
        logical = str(avro.get("logicalType", ""))
        if logical == "decimal" and name == "bytes" and "precision" in avro:
            precision, scale = avro["precision"], avro.get("scale", 0)
            words = f"decimal({precision}, {scale})"
            return FieldType(Form.DECIMAL, wire, words, scale=scale, text=text_sizes.DECIMAL)
        text, words = _TEXT_SIZES[form], name
        if form is Form.LONG and (name, logical) in _TIMES:
            form, words = _TIMES[name, logical], logical
        elif form is Form.LONG and logical in _OTHER_TIMES:
            form, words = Form.OTHER_TIME, logical
        return FieldType(form, wire, words, text=text)

    def _union(self, branches: list[Any]) -> FieldType:
        types = [None if each == "null" else self.type_of(each) for each in branches]
        present = [each for each in types if each]
        wire = ["null" if each is None else each.wire for each in types]
        text = text_sizes.of_union([text_sizes.NULL if each is None else each.text for each in types])
        if len(present) == 1 and len(types) == 2 and present[0].form is not Form.OTHER:
            found = present[0]
            return replace(found, wire=wire, nullable=True, text=text)
        words = " or ".join("null" if each is None else each.words for each in types)
        return FieldType(Form.OTHER, wire, words, branches=tuple(present), text=text)

    def _collection(self, avro: AvroSchema) -> FieldType:
        kind, part = ("array", "items") if avro["type"] == "array" else ("map", "values")
        inner = self.type_of(avro[part])
        if kind == "array" and not inner.text.least_bytes:
            raise Unreadable("has an array of values that take no bytes")  # a count of 2**60 would be read for years
        wire = {"type": kind, part: inner.wire}
        text = text_sizes.of_array(inner.text) if kind == "array" else text_sizes.of_map(inner.text)
        if text.growth > MAX_GROWTH:
            raise Unreadable(f"has {kind}s whose text is up to {text.growth:,.0f} times as long as their bytes")
        of_text = inner.form is Form.TEXT and not inner.nullable
        form = (Form.TEXT_LIST if kind == "array" else Form.TEXT_MAP) if of_text else Form.OTHER
        words = f"{kind} of {'nullable ' if inner.nullable else ''}{inner.words}"
        return FieldType(form, wire, words, text=text)

    def _record(self, avro: AvroSchema) -> FieldType:
        name = avro["name"]
        self._named[name] = avro
        self._open.append(name)
        types = {each["name"]: self.type_of(each["type"]) for each in avro["fields"]}
        self._open.pop()
        for each in types:
            refuse_long_name(each)
        fields = [{"name": each, "type": found.wire} for each, found in types.items()]
        return FieldType(
            form=Form.OTHER,
            wire={"type": "record", "name": self._new_name(), "fields": fields},
            words=f"record {name}",
            text=text_sizes.of_record({each: found.text for each, found in types.items()}),
        )

    def _enum(self, avro: AvroSchema) -> FieldType:
        symbols = tuple(avro["symbols"])
        kept = {"type": "enum", "name": self._new_name(), "symbols": list(symbols)}
        wire = kept if self._keep_enums else "long"
        return FieldType(Form.ENUM, wire, "enum", symbols=symbols, text=text_sizes.of_enum(symbols))

    def _fixed(self, avro: AvroSchema) -> FieldType:
        size = avro["size"]
        if not isinstance(size, int) or not 0 <= size <= _LARGEST_FIXED:
            raise Unreadable(f"has a fixed of {size} bytes, expected 0 to {_LARGEST_FIXED:,}")
        wire = {"type": "fixed", "name": self._new_name(), "size": size}
        form = Form.FIXED if 0 < size <= _LARGEST_FIXED_IN_BLOCKS else Form.OTHER
        return FieldType(form, wire, f"fixed({size})", size=size, text=text_sizes.of_fixed(size))

    def _new_name(self) -> str:
        self._names_given += 1
        return f"{'s' if self._keep_enums else 'n'}{self._names_given}"
