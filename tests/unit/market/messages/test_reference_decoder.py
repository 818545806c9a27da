import copy
from decimal import Decimal
from typing import Any

import pytest
from avro_messages import OPEN_US, SCHEMA_ID, altered, message, trade

from k2_market.messages.reference_decoder import RefusedMessage, reference_decoder
from k2_market.messages.schema_resolution import ReadingPlan, reading_plan
from k2_market.schemas.avro import TRADE
from k2_market.schemas.message_kinds import TRADE_MESSAGES


def decoded(value: bytes, schema: dict[str, Any] = TRADE) -> dict[str, Any]:
    plan = reading_plan(SCHEMA_ID, copy.deepcopy(schema), TRADE_MESSAGES)
    assert isinstance(plan, ReadingPlan)
    row = reference_decoder(plan)(value)
    return {each.name: row[each.key] for each in plan.fields}


def test_numbers_stay_what_they_are_on_the_wire():
    row = decoded(message(trade(exchange_timestamp=2**63 - 1)))

    assert row["exchange_timestamp"] == 2**63 - 1
    assert row["received_timestamp"] == OPEN_US + 5
    assert (row["side"], row["asset_class"]) == (0, 0)
    assert row["trade_date"] == 16140
    assert row["price"] == Decimal("36.45")


def test_a_decimal_of_more_than_18_digits_is_not_rounded():
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 8}

    row = decoded(
        message(trade(price=Decimal("1234567890123456789012.12345678")), altered(TRADE, price=wide)),
        altered(TRADE, price=wide),
    )

    assert row["price"] == Decimal("1234567890123456789012.12345678")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (message(trade())[:-1], "truncated body"),
        (message(trade()) + b"\x00", "1 byte left after the record"),
        (message(trade()).replace(b"BHP", b"\xff\xfe\xfd"), "text that is not UTF-8"),
        (message(trade()).replace(b"\x02\x02\nvenue", b"\x06\x02\nvenue"), "union branch out of range"),
    ],
)
def test_what_can_not_be_read_is_refused_with_the_reason(value, reason):
    with pytest.raises(RefusedMessage) as refusal:
        decoded(value)

    assert str(refusal.value) == reason


def test_nested_values_that_we_do_not_know_are_json():
    leg = {
        "type": "record",
        "name": "Leg",
        "fields": [
            {"name": "way", "type": {"type": "enum", "name": "Way", "symbols": ["IN", "OUT"]}},
            {"name": "raw", "type": "bytes"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    }
    schema = altered(TRADE, leg=leg, either=["null", "int", "string"], nothing="null")

    row = decoded(message(trade(leg={"way": "OUT", "raw": b"\x01", "at": 5}, either=3, nothing=None), schema), schema)

    assert (row["leg"], row["either"], row["nothing"]) == ('{"way":"OUT","raw":"01","at":5}', "3", None)
