import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from fastavro import parse_schema, schemaless_reader
from hypothesis import given
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import load_feeds
from k2_market.messages.framing import HEADER_BYTES, schema_id_of
from k2_market.messages.outgoing import trade_messages
from k2_market.schemas.avro import TRADE
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.trade import SOURCE_TRADE

ASX = load_feeds([SHIPPED_FEEDS])["asx"]
SCHEMA = parse_schema(TRADE)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DULL: dict[str, Any] = {
    "symbol": "BHP",
    "exchange_timestamp_us": 1394452800123456,
    "trade_date": date(2014, 3, 10),
    "trade_id": "7078:2014-03-10:1",
    "price": Decimal("36.45"),
    "quantity": Decimal(100),
    "side": "UNKNOWN",
    "conditions": [],
    "action": "NEW",
    "corrects_trade_id": None,
    "sequence_number": None,
    "received_timestamp_us": 1394452800999999,
    "attributes": None,
}


def trades(*told: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{**DULL, **each} for each in told], schema=SOURCE_TRADE)


def decoded(value: bytes | None) -> dict[str, Any]:
    assert value is not None
    body = io.BytesIO(value[HEADER_BYTES:])
    record = schemaless_reader(body, SCHEMA)
    assert body.read() == b""
    return record


def decimals(scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**18) + 1, 10**18 - 1).map(lambda units: Decimal(units).scaleb(-scale))


ANY_TRADE = st.fixed_dictionaries(
    {
        "symbol": st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
        "exchange_timestamp_us": st.integers(1, 9_214_646_399_999_999),
        "trade_date": st.dates(date(1970, 1, 2), date(2261, 12, 31)),
        "trade_id": st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
        "price": decimals(PRICE.scale),
        "quantity": decimals(QUANTITY.scale),
        "side": st.sampled_from(["BUY", "SELL", "SELL_SHORT", "UNKNOWN"]),
        "conditions": st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=3), max_size=3),
        "action": st.sampled_from(["NEW", "CORRECT", "CANCEL"]),
        "corrects_trade_id": st.none() | st.just("1"),
        "sequence_number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "received_timestamp_us": st.integers(1, 9_214_646_399_999_999),
        "attributes": st.none()
        | st.dictionaries(st.sampled_from("ab"), st.text("xyz")).map(
            lambda pairs: [{"key": key, "value": value} for key, value in pairs.items()]
        ),
    }
)


@given(st.lists(ANY_TRADE, min_size=1, max_size=5))
def test_the_avro_library_reads_from_a_message_what_the_source_told(told):
    messages = trade_messages(trades(*told), ASX, schema_id=7)

    for value, trade in zip(messages.values, told, strict=True):
        attributes = trade["attributes"]
        record = decoded(value)
        assert len(record.pop("message_id")) == 32
        assert record == {
            "trade_id": trade["trade_id"],
            "symbol": trade["symbol"],
            "exchange": "ASX",
            "asset_class": "equities",
            "exchange_timestamp": EPOCH + timedelta(microseconds=trade["exchange_timestamp_us"]),
            "trade_date": trade["trade_date"],
            "price": trade["price"],
            "quantity": trade["quantity"],
            "currency": "AUD",
            "side": trade["side"],
            "conditions": trade["conditions"],
            "action": trade["action"],
            "corrects_trade_id": trade["corrects_trade_id"],
            "sequence_number": trade["sequence_number"],
            "received_timestamp": EPOCH + timedelta(microseconds=trade["received_timestamp_us"]),
            "attributes": None if attributes is None else {pair["key"]: pair["value"] for pair in attributes},
        }


def test_key_time_and_frame_are_symbol_exchange_time_and_schema_id():
    messages = trade_messages(trades({}, {"symbol": "RIO"}), ASX, schema_id=7)

    assert messages.keys == [b"BHP", b"RIO"]
    assert messages.timestamps_ms == [1394452800123, 1394452800123]
    assert [schema_id_of(value) for value in messages.values if value] == [7, 7]
    assert len(messages) == 2


def test_the_same_trade_is_the_same_message_whenever_it_is_sent():
    assert trade_messages(trades({}), ASX, 7).values == trade_messages(trades({}), ASX, 7).values


@pytest.mark.parametrize(
    "other",
    [
        {"trade_id": "7078:2014-03-10:2"},
        {"symbol": "RIO"},
        {"action": "CANCEL"},
        {"action": "CORRECT", "corrects_trade_id": "1"},
        {"trade_date": date(2014, 3, 11)},
        {"price": Decimal("36.46")},
    ],
)
def test_messages_that_say_different_things_have_different_ids(other):
    one, two = (decoded(value)["message_id"] for value in trade_messages(trades({}, other), ASX, 7).values)

    assert one != two


def test_when_a_trade_was_received_does_not_change_its_messages_id():
    one, two = trade_messages(trades({}, {"received_timestamp_us": 1394452801000000}), ASX, 7).values

    assert decoded(one)["message_id"] == decoded(two)["message_id"]
