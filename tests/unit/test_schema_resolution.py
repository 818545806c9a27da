import copy
from typing import Any

import pytest
from avro_messages import altered

from k2_market.avro_schemas import QUOTE, TRADE, MessageKind
from k2_market.schema_resolution import Form, ReadingPlan, UnreadableSchema, reading_plan
from k2_market.table_schemas import PRICE


def plan(schema: Any) -> ReadingPlan:
    found = reading_plan(7, schema, MessageKind.TRADES)
    assert isinstance(found, ReadingPlan), found
    return found


def reason(schema: Any) -> str:
    found = reading_plan(7, schema, MessageKind.TRADES)
    assert isinstance(found, UnreadableSchema)
    return found.reason


def without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**schema, "fields": [field for field in schema["fields"] if field["name"] not in names]}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def test_our_own_schemas_are_read_in_blocks_and_nothing_is_extra():
    for kind, schema in ((MessageKind.TRADES, TRADE), (MessageKind.QUOTES, QUOTE)):
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
