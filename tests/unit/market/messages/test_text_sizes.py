"""The bounds on a type's text hold of its values, whatever they are."""

import io
import json
import string
from typing import Any

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.messages import text_sizes
from k2_market.messages.row_resolution import json_text
from k2_market.messages.text_sizes import TextSize

names = st.text(string.ascii_letters, min_size=1, max_size=30)
LEAVES: dict[str, tuple[TextSize, st.SearchStrategy[Any]]] = {
    "null": (text_sizes.NULL, st.none()),
    "boolean": (text_sizes.BOOLEAN, st.booleans()),
    "long": (text_sizes.LONG, st.integers(-(2**63), 2**63 - 1)),
    "float": (text_sizes.FLOAT, st.floats(width=32)),
    "double": (text_sizes.DOUBLE, st.floats()),
    "bytes": (text_sizes.BYTES, st.binary(max_size=20)),
    "string": (text_sizes.TEXT, st.text(max_size=20)),
}


class Types:
    """Makes types with values of them; names are counted, since Avro wants each once."""

    def __init__(self) -> None:
        self.given = 0

    def name(self) -> str:
        self.given += 1
        return f"N{self.given}"

    def any(self, draw: st.DrawFn, depth: int) -> tuple[Any, TextSize, st.SearchStrategy[Any]]:
        kinds = [*LEAVES, "fixed", "enum", *(("record", "array", "map", "nullable") if depth else ())]
        kind = draw(st.sampled_from(kinds))
        if kind in LEAVES:
            return kind, *LEAVES[kind]
        if kind == "fixed":
            size = draw(st.integers(0, 5))
            avro = {"type": "fixed", "name": self.name(), "size": size}
            return avro, text_sizes.of_fixed(size), st.binary(min_size=size, max_size=size)
        if kind == "enum":
            symbols = draw(st.lists(names, min_size=1, max_size=3, unique=True))
            avro = {"type": "enum", "name": self.name(), "symbols": symbols}
            return avro, text_sizes.of_enum(symbols), st.sampled_from(symbols)
        if kind == "record":
            fields = draw(st.lists(names, max_size=4, unique=True))
            inner = {field: self.any(draw, depth - 1) for field in fields}
            avro = {"type": "record", "name": self.name(), "fields": [{"name": f, "type": inner[f][0]} for f in fields]}
            size = text_sizes.of_record({field: each[1] for field, each in inner.items()})
            return avro, size, st.fixed_dictionaries({field: each[2] for field, each in inner.items()})
        avro, size, values = self.any(draw, depth - 1)
        if kind == "array" and size.least_bytes:
            return {"type": "array", "items": avro}, text_sizes.of_array(size), st.lists(values, max_size=6)
        if kind == "map":
            keys = st.text(max_size=5)
            return {"type": "map", "values": avro}, text_sizes.of_map(size), st.dictionaries(keys, values, max_size=6)
        if avro == "null" or isinstance(avro, list):
            return avro, size, values
        return ["null", avro], text_sizes.of_union([text_sizes.NULL, size]), st.none() | values


@st.composite
def written(draw: st.DrawFn) -> tuple[TextSize, int, str]:
    """A type's bounds, the bytes that a value of it takes, and its text as JSON."""
    avro, size, values = Types().any(draw, 3)
    value = draw(values)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(avro), value)
    body.seek(0)
    read = fastavro.schemaless_reader(body, fastavro.parse_schema(avro), None)
    return size, body.tell(), json_text(read)


@settings(max_examples=300)
@given(written())
def test_no_value_has_a_longer_text_than_its_type_allows(found: tuple[TextSize, int, str]) -> None:
    size, length, text = found
    assert length >= size.least_bytes
    assert len(text) <= size.fixed + size.growth * length
    if size.least_bytes:
        assert len(text) <= size.ratio * length + 1e-6


def test_the_growth_of_records_of_nothing_in_an_array_is_told() -> None:
    nothing = {f"a_field_of_no_bytes_{number}": text_sizes.NULL for number in range(1_000)}
    grows = text_sizes.of_array(text_sizes.of_record({**nothing, "byte": text_sizes.BOOLEAN}))
    text = json.dumps([{**dict.fromkeys(nothing), "byte": False}] * 10, separators=(",", ":"))
    assert grows.growth * 10 >= len(text) > 200_000
