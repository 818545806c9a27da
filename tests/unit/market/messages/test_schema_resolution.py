import copy
from typing import Any

import pytest
from avro_messages import altered
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.messages import schema_resolution
from k2_market.messages.schema_resolution import Form, ReadingPlan, UnreadableSchema, reading_plan
from k2_market.messages.writer_schemas import ReferringSchema, UnusableSchema
from k2_market.schemas.avro import QUOTE, TRADE
from k2_market.schemas.message_kinds import QUOTE_MESSAGES, TRADE_MESSAGES
from k2_market.schemas.tables import PRICE


def plan(schema: Any) -> ReadingPlan:
    found = reading_plan(7, schema, TRADE_MESSAGES)
    assert isinstance(found, ReadingPlan), found
    return found


def reason(schema: Any) -> str:
    found = reading_plan(7, schema, TRADE_MESSAGES)
    assert isinstance(found, UnreadableSchema)
    return found.reason


def without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**schema, "fields": [field for field in schema["fields"] if field["name"] not in names]}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def test_our_own_schemas_are_read_in_blocks_and_nothing_is_extra():
    for kind, schema in ((TRADE_MESSAGES, TRADE), (QUOTE_MESSAGES, QUOTE)):
        found = reading_plan(7, schema, kind)
        assert isinstance(found, ReadingPlan)
        assert found.in_blocks
        assert (found.extra, found.defaults) == ((), {})
        assert set(found.known) == {field["name"] for field in schema["fields"]}


def test_a_field_that_the_writer_lacks_takes_our_default():
    optional = ["side", "conditions", "action", "corrects_trade_id", "sequence_number", "attributes"]

    found = plan(without(TRADE, *optional))

    assert found.defaults == dict(zip(optional, ["UNKNOWN", [], "NEW", None, None, None], strict=True))


def test_a_field_that_the_writer_lacks_without_a_default_makes_the_schema_unreadable():
    assert reason(without(TRADE, "price", "symbol")) == "schema id 7 (k2.market.Trade) lacks symbol, price"


def test_a_field_that_we_lack_is_extra():
    found = plan(altered(TRADE, venue="string", lots=["null", "int"]))

    assert [(each.name, each.type.form) for each in found.extra] == [("venue", Form.TEXT), ("lots", Form.LONG)]
    assert found.in_blocks


@pytest.mark.parametrize(
    "types",
    [
        {"sequence_number": "long"},
        {"sequence_number": "int"},
        {"sequence_number": ["long", "null"]},
        {"symbol": ["null", "string"]},
        {"symbol": {"type": "string", "avro.java.string": "String"}},
        {"trade_id": {"type": "string", "logicalType": "uuid"}},
        {"price": decimal(30, PRICE.scale)},
        {"price": decimal(9, 2)},
        {"price": ["null", decimal(9, 2)]},
        {"side": {"type": "enum", "name": "Way", "symbols": ["SELL", "BUY"]}},
    ],
)
def test_types_that_hold_the_same_values_fit_and_are_read_in_blocks(types):
    assert plan(altered(TRADE, **types)).in_blocks


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ({"symbol": "bytes"}, "symbol is bytes, expected string"),
        ({"side": "string"}, "side is string, expected enum"),
        ({"sequence_number": "double"}, "sequence_number is double, expected long"),
        ({"trade_date": "int"}, "trade_date is int, expected date"),
        ({"exchange_timestamp": "long"}, "exchange_timestamp is long, expected timestamp-micros"),
        (
            {"exchange_timestamp": {"type": "long", "logicalType": "timestamp-millis"}},
            "exchange_timestamp is timestamp-millis, expected timestamp-micros",
        ),
        ({"conditions": "string"}, "conditions is string, expected array of string"),
        (
            {"conditions": {"type": "array", "items": ["null", "string"]}},
            "conditions is array of nullable string, expected array of string",
        ),
        ({"symbol": ["null", "bytes", "long"]}, "symbol is null or bytes or long, expected string"),
        (
            {"sequence_number": ["null", "long", {"type": "int", "logicalType": "date"}]},
            "sequence_number is null or long or date, expected long",
        ),
    ],
)
def test_types_that_do_not_fit_are_named(types, words):
    assert reason(altered(TRADE, **types)) == f"schema id 7 (k2.market.Trade): {words}"


def test_a_decimal_with_more_places_than_ours_does_not_fit_since_nothing_is_rounded():
    words = f"price is decimal(38, {PRICE.scale + 1}), expected decimal({PRICE.precision}, {PRICE.scale})"

    assert reason(altered(TRADE, price=decimal(38, PRICE.scale + 1))) == f"schema id 7 (k2.market.Trade): {words}"


def test_a_symbol_that_we_do_not_know_becomes_our_default_where_we_have_one():
    found = plan(
        altered(
            TRADE,
            side={"type": "enum", "name": "Side", "symbols": ["CROSS", "BUY"]},
            action={"type": "enum", "name": "Action", "symbols": ["BUST", "NEW"]},
        )
    )

    assert found.known["side"].symbols == ("UNKNOWN", "BUY")
    assert found.known["action"].symbols == (None, "NEW")


@pytest.mark.parametrize(
    "types",
    [
        {"sequence_number": ["null", "long", "string"]},
        {"sequence_number": ["null", "int", "long"]},
        {"symbol": ["string"]},
        {"extra": ["null", "int", "string"]},
        {"extra": {"type": "record", "name": "Leg", "fields": [{"name": "ratio", "type": "int"}]}},
        {"extra": {"type": "array", "items": "double"}},
        {"extra": "null"},
        {"extra": {"type": "fixed", "name": "Nothing", "size": 0}},
    ],
)
def test_types_that_no_block_reader_reads_are_left_to_fastavro(types):
    assert not plan(altered(TRADE, **types)).in_blocks


def test_a_type_that_is_named_once_may_be_used_twice():
    side = next(field["type"] for field in TRADE["fields"] if field["name"] == "side")

    found = plan(altered(TRADE, maker_side=side["name"], other={"type": "fixed", "name": "Id", "size": 2}, more="Id"))

    assert [(each.name, each.type.form) for each in found.extra] == [
        ("maker_side", Form.ENUM),
        ("other", Form.FIXED),
        ("more", Form.FIXED),
    ]
    assert found.extra[0].symbols == tuple(side["symbols"])


@pytest.mark.parametrize(
    "items",
    ["null", {"type": "record", "name": "Empty", "fields": []}, {"type": "fixed", "name": "Nothing", "size": 0}],
)
def test_an_array_of_nothings_is_not_read_since_one_message_could_keep_us_for_years(items):
    expected = "schema id 7 has an array of values that take no bytes"

    assert reason(altered(TRADE, extra={"type": "array", "items": items})) == expected


def test_a_recursive_schema_is_not_read():
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "child", "type": ["null", "Tree"]}]}

    assert reason(altered(TRADE, extra=tree)) == "schema id 7 is recursive in k2.market.Tree"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("string", "is not a record"),
        (["null", TRADE], "is not a record"),
        ({"type": "enum", "name": "Side", "symbols": ["BUY"]}, "is not a record"),
        (None, "is not valid Avro (TypeError)"),
        (17, "is not valid Avro"),
        ({}, "is not valid Avro"),
        ({"type": "record"}, "is not valid Avro"),
        ({"type": "record", "name": "Trade", "fields": [{"name": "symbol", "type": "Unheard"}]}, "is not valid Avro"),
        ({**TRADE, "fields": TRADE["fields"] + TRADE["fields"][:1]}, "(k2.market.Trade) has two fields of one name"),
    ],
)
def test_what_is_no_schema_of_a_record_is_said_to_be_none(schema, words):
    assert reason(copy.deepcopy(schema)).startswith(f"schema id 7 {words}")


def array_of(levels: int, items: Any = "string") -> Any:
    return {"type": "array", "items": array_of(levels - 1, items)} if levels else items


def doubling(levels: int) -> list[dict[str, Any]]:
    """Records each of which has the one before it twice: a few lines that stand for millions of types."""
    first = {"name": "level_0", "type": {"type": "record", "name": "L0", "fields": [{"name": "a", "type": "int"}]}}
    return [first] + [
        {
            "name": f"level_{level}",
            "type": {
                "type": "record",
                "name": f"L{level}",
                "fields": [{"name": name, "type": f"L{level - 1}"} for name in "ab"],
            },
        }
        for level in range(1, levels)
    ]


def record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def nullable_fields(count: int) -> dict[str, Any]:
    return {f"field_{number}": ["null", "string"] for number in range(count)}


def of_no_bytes(count: int) -> dict[str, Any]:
    return {f"a_field_of_no_bytes_{number}": "null" for number in range(count)}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (altered(TRADE, deep=array_of(65)), "has types nested more than 64 deep"),
        (altered(TRADE, deep=array_of(400)), "is nested more than 256 levels deep"),
        (altered(TRADE, deep=array_of(100, record("R", {"a": "int"}))), "has types nested more than 64 deep"),
        ({**TRADE, "fields": [*TRADE["fields"], *doubling(40)]}, "has more than 10,000 types"),
        (altered(TRADE, **nullable_fields(6_000)), "has more than 10,000 types"),
        (altered(TRADE, **{f"f{number}" * 20: "long" for number in range(1_000)}), "new fields that take"),
        (altered(TRADE, **{"n" * 257: "string"}), "has a name of 257 characters, at most 256"),
        (altered(TRADE, inner=record("R", {"n" * 257: "string"})), "has a name of 257 characters, at most 256"),
        (altered(TRADE, empty=array_of(1, record("R", of_no_bytes(3)))), "an array of values that take no bytes"),
        (
            altered(TRADE, grows=array_of(1, record("R", {**of_no_bytes(100), "byte": "boolean"}))),
            "has arrays whose text is up to",
        ),
        (
            altered(TRADE, grows={"type": "map", "values": record("R", of_no_bytes(100))}),
            "has maps whose text is up to",
        ),
        (
            altered(TRADE, grows=array_of(1, {"type": "enum", "name": "E", "symbols": ["S" * 200]})),
            "has arrays whose text is up to",
        ),
        (altered(TRADE, wide={"type": "fixed", "name": "F", "size": 2**40}), "has a fixed of 1099511627776 bytes"),
        (altered(TRADE, wide={"type": "fixed", "name": "F", "size": -1}), "has a fixed of -1 bytes"),
        (altered(TRADE, wide={"type": "fixed", "name": "F", "size": "many"}), "has a fixed of many bytes"),
        (altered(TRADE, unknown="com.example.Elsewhere"), "is not valid Avro (there is no type com.example.Elsewhere)"),
        ({**TRADE, "doc": "x" * 1_000_001}, "has more than 1,000,000 characters"),
    ],
)
def test_a_schema_that_would_take_too_much_is_not_read_and_the_reason_says_of_what(schema, words):
    assert reason(schema).startswith("schema id 7 ")
    assert words in reason(schema)


def test_what_nobody_foresaw_of_a_schema_makes_it_unreadable_and_is_told(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any) -> None:
        raise LookupError("nobody foresaw this")

    monkeypatch.setattr(schema_resolution, "_plan", fails)
    assert reason(TRADE) == "schema id 7 can't be used: LookupError: nobody foresaw this"


def test_a_schema_of_many_fields_and_levels_is_read_as_long_as_it_is_of_a_sensible_size():
    found = plan(altered(TRADE, **nullable_fields(1_000), deep=array_of(60)))
    assert len(found.extra) == 1_001


def test_a_type_of_a_schema_that_is_referred_to_is_that_type():
    venue = {"type": "enum", "name": "Venue", "namespace": "com.example", "symbols": ["A", "B"]}
    place = {**record("Place", {"venue": "com.example.Venue"}), "namespace": "com.example"}
    writer = altered(TRADE, venue="com.example.Venue", place="com.example.Place")

    found = plan(ReferringSchema(writer, (venue, place)))

    assert [(each.name, each.type.form) for each in found.extra] == [("venue", Form.ENUM), ("place", Form.OTHER)]
    assert found.extra[0].symbols == ("A", "B")
    assert reason(ReferringSchema(writer, (venue,))) == (
        "schema id 7 is not valid Avro (there is no type com.example.Place)"
    )


def test_what_is_no_avro_schema_is_called_what_it_is():
    assert reason(UnusableSchema("is a JSON schema; Avro is expected")) == (
        "schema id 7 is a JSON schema; Avro is expected"
    )


_names = st.sampled_from(["Trade", "A", "B", "k2.market.Side", "Message", "x.y", "", "\ud800", "\x00"])
_primitives = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string", "A", "x.y.A"])
_types = st.recursive(
    _primitives | st.none() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"type": st.just("map"), "values": inner})
        | st.fixed_dictionaries({"type": st.just("fixed"), "name": _names, "size": st.integers(-5, 2**40)})
        | st.fixed_dictionaries({"type": st.just("enum"), "name": _names, "symbols": st.lists(_names, max_size=3)})
        | st.fixed_dictionaries(
            {"type": st.just("record"), "name": _names},
            optional={"fields": st.lists(st.fixed_dictionaries({"name": _names, "type": inner}), max_size=3)},
        )
        | st.fixed_dictionaries(
            {"type": inner},
            optional={
                "logicalType": st.sampled_from(["decimal", "timestamp-micros", "date", "uuid", "duration", 7]),
                "precision": st.integers(-2, 10**9),
                "scale": st.integers(-2, 10**9),
                "aliases": st.lists(_names, max_size=2),
                "default": inner,
            },
        )
    ),
    max_leaves=12,
)
"""Types right and wrong, which name one another at random."""


@settings(max_examples=400)
@given(_types, st.lists(_types, max_size=2))
def test_no_schema_whatever_it_is_makes_planning_raise(avro_type: Any, references: list[Any]):
    for schema in (
        avro_type,
        altered(TRADE, new=avro_type),
        altered(TRADE, price=avro_type),
        ReferringSchema(altered(TRADE, new=avro_type), tuple(references)),
    ):
        found = reading_plan(7, schema, TRADE_MESSAGES)
        assert isinstance(found, ReadingPlan | UnreadableSchema)
