from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from avro_messages import SCHEMA_ID, altered
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.messages.block_reader import wire_schema
from k2_market.messages.row_resolution import ResolvedRows, decimal_fault, resolve
from k2_market.messages.schema_resolution import ReadingPlan, reading_plan
from k2_market.schemas.avro import TRADE
from k2_market.schemas.message_kinds import TRADE_MESSAGES
from k2_market.schemas.tables import PRICE

USUAL = {
    "message_id": "m",
    "trade_id": "t",
    "symbol": "BHP",
    "exchange": "ASX",
    "asset_class": 0,
    "exchange_timestamp": 1,
    "trade_date": 1,
    "price": Decimal(1),
    "quantity": Decimal(1),
    "currency": "AUD",
    "side": 0,
    "conditions": [],
    "action": 0,
    "corrects_trade_id": None,
    "sequence_number": None,
    "received_timestamp": 1,
    "attributes": None,
}


def resolved(rows: list[dict[str, Any]], **types: Any) -> ResolvedRows:
    """Rows of wire values, by the writer's field names, of our schema with some types altered."""
    plan = reading_plan(SCHEMA_ID, altered(TRADE, **types), TRADE_MESSAGES)
    assert isinstance(plan, ReadingPlan), plan
    named = [{each.key: {**USUAL, **row}.get(each.name) for each in plan.fields} for row in rows]
    return resolve(pa.RecordBatch.from_pylist(named, wire_schema(plan)), plan)


def attributes(found: ResolvedRows) -> list[Any]:
    found.columns["attributes"].validate(full=True)
    return [None if each is None else dict(each) for each in found.columns["attributes"].to_pylist()]


def test_columns_are_those_of_the_table_with_times_as_numbers():
    found = resolved([{}])

    assert list(found.columns) == [field.name for field in TRADE_MESSAGES.message_fields]
    for field in TRADE_MESSAGES.message_fields:
        number = field.name in ("trade_date", "exchange_timestamp", "received_timestamp")
        assert found.columns[field.name].type == (pa.int64() if number else field.type)


def test_an_enums_numbers_become_symbols_and_others_faults():
    found = resolved([{"side": number} for number in (0, 3, 4, -1, 2**40)])

    assert found.columns["side"].to_pylist()[:2] == ["BUY", "UNKNOWN"]
    assert found.faults == {
        2: "enum index 4 out of range for side",
        3: "enum index -1 out of range for side",
        4: f"enum index {2**40} out of range for side",
    }


def test_an_unknown_symbol_is_the_default_or_a_fault():
    side = {"type": "enum", "name": "Side", "symbols": ["CROSS", "SELL"]}
    action = {"type": "enum", "name": "Action", "symbols": ["NEW", "BUST"]}

    found = resolved([{"side": 0}, {"side": 1}, {"action": 1}], side=side, action=action)

    assert found.columns["side"].to_pylist() == ["UNKNOWN", "SELL", "UNKNOWN"]
    assert found.faults == {2: "action has a symbol that is not known"}


def test_null_in_a_required_field_is_a_fault_and_the_first_fault_stands():
    nullable = {"symbol": ["null", "string"], "side": ["null", {"type": "enum", "name": "Side", "symbols": ["BUY"]}]}

    found = resolved([{}, {"symbol": None}, {"side": None}, {"symbol": None, "side": None}], **nullable)

    assert found.faults == {1: "symbol is null", 2: "side is null", 3: "symbol is null"}


@settings(deadline=None)
@given(st.integers(0, PRICE.scale), st.lists(st.none() | st.integers(1 - 10**38, 10**38 - 1), min_size=1))
def test_a_decimal_is_the_same_number_or_a_fault(scale, unscaled):
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scale}
    rows = [{"price": None if each is None else Decimal(f"{each}e-{scale}")} for each in unscaled]

    found = resolved(rows, price=["null", wide])

    prices = found.columns["price"].to_pylist()
    for place, (row, price) in enumerate(zip(rows, prices, strict=True)):
        too_wide = row["price"] is not None and abs(row["price"]) >= 10 ** (PRICE.precision - PRICE.scale)
        if row["price"] is None:
            assert found.faults[place] == "price is null"
        elif too_wide:
            assert found.faults[place].startswith("price of ")
        else:
            assert (price, place in found.faults) == (row["price"], False)


@pytest.mark.parametrize("unscaled", [2**63 - 1, -(2**63), 2**63, 2**64, 2**64 + 1, -(2**64) - 1])
def test_numbers_about_the_machines_word_are_not_mixed_up(unscaled):
    found = resolved([{"price": Decimal(f"{unscaled}e-{PRICE.scale}")}])

    assert found.faults == {0: f"price of {len(str(abs(unscaled)))} digits, at most 18"}


def test_digits_are_counted_at_our_scale():
    assert decimal_fault(pa.field("price", PRICE), 10**17, PRICE.scale - 2) == "price of 20 digits, at most 18"
    assert decimal_fault(pa.field("price", PRICE), 10**38, PRICE.scale) == "price of more than 38 digits, at most 18"
    assert (
        decimal_fault(pa.field("price", PRICE), -(10**100_000), PRICE.scale)
        == "price of more than 38 digits, at most 18"
    )


def test_fields_that_we_do_not_know_become_attributes_as_text():
    types = {
        "venue": ["null", "string"],
        "lots": "int",
        "dark": "boolean",
        "fee": "double",
        "digest": "bytes",
        "way": {"type": "enum", "name": "Way", "symbols": ["IN", "OUT"]},
        "tax": {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2},
        "at": {"type": "long", "logicalType": "timestamp-millis"},
        "tags": {"type": "array", "items": "string"},
        "more": {"type": "map", "values": "string"},
    }
    values = {
        "venue": "X",
        "lots": -3,
        "dark": True,
        "fee": 1e-07,
        "digest": b"\x00\xff",
        "way": 1,
        "tax": (-5).to_bytes(30, "big", signed=True),
        "at": 17,
        "tags": ["a", "é"],
        "more": [("k", "v")],
    }

    (row,) = attributes(resolved([values], **types))

    assert row == {
        "venue": "X",
        "lots": "-3",
        "dark": "true",
        "fee": "1e-07",
        "digest": "00ff",
        "way": "OUT",
        "tax": "-0.05",
        "at": "17",
        "tags": '["a","é"]',
        "more": '{"k":"v"}',
    }


def test_a_field_wins_over_an_attribute_of_its_name_unless_it_is_null():
    rows = [
        {"venue": "X", "attributes": [("venue", "old"), ("a", "1")]},
        {"venue": None, "attributes": [("venue", "old")]},
        {"venue": "Y", "attributes": None},
        {"venue": None, "attributes": None},
        {"venue": None, "attributes": []},
    ]

    found = resolved(rows, venue=["null", "string"])

    assert attributes(found) == [{"a": "1", "venue": "X"}, {"venue": "old"}, {"venue": "Y"}, None, {}]


MAPS = st.none() | st.lists(st.tuples(st.sampled_from("abcx"), st.text(max_size=2)), max_size=5)


@settings(deadline=None)
@given(st.lists(st.tuples(MAPS, st.none() | st.text(max_size=2), st.none() | st.text(max_size=2)), min_size=1))
def test_merging_attributes_is_what_updating_dicts_is(rows):
    wire = [{"attributes": own, "x": x, "y": y} for own, x, y in rows]

    found = resolved(wire, x=["null", "string"], y=["null", "string"])

    for (own, x, y), merged in zip(rows, found.columns["attributes"].to_pylist(), strict=True):
        extra = {name: value for name, value in (("x", x), ("y", y)) if value is not None}
        expected = None if own is None and not extra else {**dict(own or []), **extra}
        assert (None if merged is None else dict(merged)) == expected
        assert merged is None or len({key for key, _ in merged}) == len(merged)


@pytest.mark.parametrize("keys", [["k", "k"], ["a", "b", "a"], [*map(str, range(40)), "7"]])
def test_a_key_that_comes_twice_keeps_its_last_value(keys):
    entries = [(key, str(place)) for place, key in enumerate(keys)]

    found = resolved([{"attributes": [("k", "1")]}, {"attributes": entries}, {"attributes": None}])

    assert found.columns["attributes"].to_pylist() == [[("k", "1")], list(dict(entries).items()), None]


def test_what_the_writer_lacks_is_our_default_in_every_row():
    schema = {**TRADE, "fields": [f for f in TRADE["fields"] if f["name"] not in ("side", "conditions", "attributes")]}
    plan = reading_plan(SCHEMA_ID, schema, TRADE_MESSAGES)
    assert isinstance(plan, ReadingPlan)
    wire = pa.RecordBatch.from_pylist([{each.key: USUAL[each.name] for each in plan.fields}] * 2, wire_schema(plan))

    columns = resolve(wire, plan).columns

    assert columns["side"].to_pylist() == ["UNKNOWN"] * 2
    assert columns["conditions"].to_pylist() == [[], []]
    assert columns["attributes"].to_pylist() == [None, None]
