import copy
from datetime import date
from decimal import Decimal
from itertools import accumulate
from random import Random
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from avro_messages import (
    DAYS,
    OPEN_MS,
    OPEN_US,
    SCHEMA_ID,
    TABLES,
    TOPIC_ID,
    altered,
    batch,
    body,
    message,
    one_message,
    quote,
    trade,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_market.messages import block_decoder
from k2_market.messages.block_decoder import decode, offsets_with_schema, part_sizes, schema_ids
from k2_market.messages.framing import frame
from k2_market.messages.raw_rows import reason_text
from k2_market.messages.writer_schemas import UnusableSchema
from k2_market.schemas.avro import QUOTE, TRADE
from k2_market.schemas.message_kinds import QUOTE_MESSAGES, TRADE_MESSAGES, MessageKind
from k2_market.schemas.tables import PRICE, QUANTITY

WRITERS = {SCHEMA_ID: TRADE}
DECODED = TABLES[TRADE_MESSAGES].names[: TABLES[TRADE_MESSAGES].names.index("kafka_topic_id")]


def nested_arrays(levels: int) -> Any:
    return {"type": "array", "items": nested_arrays(levels - 1)} if levels else "string"


TOO_LATE = "exchange_timestamp 9223372036854775807 looks like nanoseconds (2262-04-11T23:47:16Z), expected microseconds"
IN_MILLISECONDS = f"exchange_timestamp {OPEN_MS} looks like milliseconds (2014-03-10T23:00:00Z), expected microseconds"
IN_NANOSECONDS = (
    f"received_timestamp {OPEN_MS * 1_000_000} looks like nanoseconds (2014-03-10T23:00:00Z), expected microseconds"
)


def rows(values: list[bytes | None], writers: dict[int, Any] = WRITERS, kind: MessageKind = TRADE_MESSAGES) -> Any:
    table = decode(batch(*values), kind, writers, DAYS)
    table.validate(full=True)
    assert table.schema.equals(TABLES[kind])
    assert table["kafka_offset"].to_pylist() == list(range(100, 100 + len(values)))
    return table.to_pylist()


def reason(value: bytes | None, writers: dict[int, Any] = WRITERS) -> str:
    """Why a message is a dead letter; its neighbours must be rows as if it were not there."""
    neighbour = message(trade())
    before, dead, after = rows([neighbour, value, neighbour], {**WRITERS, **writers})
    (alone,) = rows([neighbour])
    placed = ("kafka_offset", "correlation_id")
    for row in (before, after):
        assert {k: v for k, v in row.items() if k not in placed} == {k: v for k, v in alone.items() if k not in placed}
    assert [dead[name] for name in DECODED if name != "trade_date"] == [None] * (len(DECODED) - 1)
    assert dead["trade_date"] == date(2014, 3, 11)
    assert (dead["payload"], dead["kafka_key"]) == (value, b"BHP")
    return dead["reject_reason"]


def test_ids_and_symbols_come_without_white_space_and_condition_codes_one_by_one():
    said = {"trade_id": " y1\u00a0", "symbol": "\u3000币安 ", "corrects_trade_id": "\ty0\ufeff", "exchange": " ASX\n"}
    plain, spaced = rows([message(trade()), message(trade(**said, conditions=["12, 37|XT", " ", "Z"]))])

    found = [spaced[name] for name in ("trade_id", "symbol", "corrects_trade_id", "exchange")]
    assert found == ["y1", "币安", "y0", "ASX"]
    assert (plain["conditions"], spaced["conditions"]) == (["XT"], ["12", "37", "XT", "Z"])


def test_a_trade_becomes_a_row_with_every_column():
    (row,) = rows([message(trade(corrects_trade_id="t-0", action="CORRECT"))])

    assert row.pop("exchange_timestamp").timestamp() * 1_000_000 == OPEN_US
    assert row.pop("received_timestamp").timestamp() * 1_000_000 == OPEN_US + 5
    assert row.pop("kafka_timestamp").timestamp() * 1000 == OPEN_MS
    assert row == {
        "trade_date": date(2014, 3, 11),
        "symbol": "BHP",
        "trade_id": "t-1",
        "price": Decimal("36.45"),
        "quantity": Decimal(100),
        "side": "BUY",
        "conditions": ["XT"],
        "action": "CORRECT",
        "corrects_trade_id": "t-0",
        "sequence_number": 42,
        "message_id": "m-1",
        "exchange": "ASX",
        "asset_class": "equities",
        "currency": "AUD",
        "attributes": [("venue", "TM")],
        "kafka_topic_id": TOPIC_ID,
        "kafka_partition": 3,
        "kafka_offset": 100,
        "schema_id": SCHEMA_ID,
        "correlation_id": "load-0",
        "reject_reason": None,
        "payload": None,
        "kafka_key": None,
    }


def test_a_quote_becomes_a_row_with_its_prices():
    (row,) = rows([message(quote(), QUOTE)], {SCHEMA_ID: QUOTE}, QUOTE_MESSAGES)

    prices = [row[name] for name in ("bid_price", "bid_size", "ask_price", "ask_size")]
    assert prices == [Decimal("36.44"), Decimal(10), Decimal("36.46"), Decimal(20)]
    assert (row["symbol"], row["reject_reason"]) == ("BHP", None)


def test_an_empty_batch_is_an_empty_table():
    assert rows([]) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null value"),
        (b"", "empty value"),
        (b'{"price": 1}', "magic byte 0x7b, expected 0x00"),
        (b"\x01" + message(trade())[1:], "magic byte 0x01, expected 0x00"),
        (b"\x00\x00\x07", "value of 3 bytes is shorter than its 5-byte header"),
        (frame(4711, body(trade())), "unknown schema id 4711"),
        (b"\x00\xff\xff\xff\xff" + body(trade()), "unknown schema id -1"),
        (frame(SCHEMA_ID, b""), "truncated body"),
        (message(trade())[:-1], "truncated body"),
        (message(trade()) + b"\x00", "1 byte left after the record"),
        (message(trade()) + b"\x00\x00\x00", "3 bytes left after the record"),
        (message(trade()) + body(trade()), f"{len(body(trade()))} bytes left after the record"),
        (message(trade(symbol="XY")).replace(b"\x04XY", b"\x04\xff\xfe"), "text that is not UTF-8"),
        (message(trade(attributes=None))[:-1] + b"\x08", "union branch out of range"),
    ],
)
def test_what_can_not_be_read_is_a_dead_letter_with_the_reason(value, expected):
    assert reason(value) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"symbol": ""}, "symbol is empty"),
        ({"symbol": "A" * 10_240}, "symbol of 10240 characters, at most 64"),
        ({"symbol": "../../etc/passwd"}, "symbol holds '..'"),
        ({"symbol": "BTC'; drop table t; --"}, "symbol has U+0027 APOSTROPHE as character 4, which is not allowed"),
        ({"symbol": "BHP\nX"}, "symbol has U+000A as character 4, which is not allowed"),
        ({"symbol": "BHP\x00"}, "symbol has U+0000 as character 4, which is not allowed"),
        ({"exchange_timestamp": 0}, "exchange_timestamp 0 outside 1970..2262"),
        ({"exchange_timestamp": -1}, "exchange_timestamp -1 outside 1970..2262"),
        ({"exchange_timestamp": 2**63 - 1}, TOO_LATE),
        ({"received_timestamp": 9_214_646_400_000_000}, "received_timestamp 9214646400000000 outside 1970..2262"),
        ({"exchange_timestamp": OPEN_MS}, IN_MILLISECONDS),
        ({"received_timestamp": OPEN_MS * 1_000_000}, IN_NANOSECONDS),
        ({"conditions": ["[12", "37]"]}, "condition '[12' has U+005B, which is in no code"),
        ({"conditions": ["a", "12-37"]}, "condition '12-37': '-' between numbers; are they several codes?"),
        ({"trade_date": date(1970, 1, 1)}, "trade_date 1970-01-01 outside 2014-03-10..2026-11-24"),
        ({"trade_date": date(2026, 11, 25)}, "trade_date 2026-11-25 outside 2014-03-10..2026-11-24"),
        ({"trade_id": "t" * 257}, "trade_id of 257 characters, at most 256"),
        ({"message_id": "é" * 257}, "message_id of 257 characters, at most 256"),
        ({"conditions": ["a", "b" * 257]}, "a condition of 257 characters, at most 256"),
    ],
)
def test_what_can_not_be_a_row_is_a_dead_letter_with_the_reason(changes, expected):
    assert reason(message(trade(**changes))) == expected


@pytest.mark.parametrize("unscaled", [0, -1, 1, -(10**PRICE.scale), 10**PRICE.precision - 1, 1 - 10**PRICE.precision])
def test_a_price_that_is_only_doubtful_is_a_row(unscaled):
    price = Decimal(f"{unscaled}e-{PRICE.scale}")

    (row,) = rows([message(trade(price=price))])

    assert row["price"] == price


@pytest.mark.parametrize(
    ("unscaled", "digits"),
    [
        (10**18, "19"),
        (-(10**18), "19"),
        (2**63, "19"),
        (-(2**63) - 1, "19"),
        (10**38 - 1, "38"),
        (10**41, "more than 38"),
        pytest.param(-(10**5000), "more than 38", id="more digits than Python shows"),
    ],
)
def test_a_decimal_with_too_many_digits_is_a_dead_letter_and_never_rounded(unscaled, digits):
    as_bytes = altered(TRADE, price="bytes")

    value = message(trade(price=unscaled.to_bytes(2200, "big", signed=True)), as_bytes)

    assert reason(value) == f"price of {digits} digits, at most 18"


@pytest.mark.parametrize("scale", [0, 2, PRICE.scale - 1])
def test_a_decimal_with_fewer_places_is_the_same_number(scale):
    coarse = altered(TRADE, price={"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": scale})
    largest = 10 ** (PRICE.precision - PRICE.scale + scale) - 1
    numbers = [Decimal(f"{unscaled}e-{scale}") for unscaled in (largest, -largest, 0, 1, -1, largest + 1)]

    found = rows([message(trade(price=number), coarse) for number in numbers], {SCHEMA_ID: coarse})

    assert [row["price"] for row in found] == [*numbers[:-1], None]
    assert found[-1]["reject_reason"] == "price of 19 digits, at most 18"


def test_an_enum_index_out_of_range_is_a_dead_letter():
    as_number = altered(TRADE, side="int")

    for index in (4, 9, -1, 2**31 - 1):
        value = message(trade(side=index), as_number)
        assert reason(value) == f"enum index {index} out of range for side"


def test_a_schema_of_another_record_is_named_with_what_it_lacks():
    assert (
        reason(message(quote(), QUOTE, 8), {8: QUOTE})
        == "schema id 8 (k2.market.Quote) lacks trade_id, price, quantity"
    )


def test_a_field_of_another_type_is_named_with_the_type_expected():
    as_text = altered(TRADE, price="string")

    value = message(trade(price="36.45"), as_text, 8)

    expected = f"price is string, expected decimal({PRICE.precision}, {PRICE.scale})"
    assert reason(value, {8: as_text}) == f"schema id 8 (k2.market.Trade): {expected}"


def test_dead_letters_keep_the_schema_id_that_their_header_names():
    found = rows([message(trade())[:-1], frame(4711, b"x"), b"\x00\x00", None])

    assert [row["schema_id"] for row in found] == [SCHEMA_ID, 4711, None, None]


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"),
    [
        (OPEN_MS, date(2014, 3, 11)),  # 23:00 UTC is the next morning in Sydney
        (0, date(2014, 3, 10)),
        (4_000_000_000_000, date(2026, 11, 24)),
        (2**63 - 1, date(2026, 11, 24)),
        (-1, date(2026, 11, 24)),
    ],
)
def test_a_dead_letter_is_filed_under_its_record_timestamps_local_day(timestamp_ms, expected):
    table = decode(batch(b"x", message(trade()), timestamp_ms=timestamp_ms), TRADE_MESSAGES, WRITERS, DAYS)

    assert table["trade_date"].to_pylist() == [expected, date(2014, 3, 11)]


def test_a_record_timestamp_that_no_clock_shows_is_null():
    for timestamp_ms in (-1, 2**63 - 1):
        table = decode(batch(message(trade()), timestamp_ms=timestamp_ms), TRADE_MESSAGES, WRITERS, DAYS)
        assert table["kafka_timestamp"].to_pylist() == [None]


def test_a_truncation_at_any_byte_is_a_dead_letter():
    whole = message(trade())

    found = rows([whole, *(whole[:end] for end in range(len(whole))), whole])

    assert [row["reject_reason"] is None for row in found] == [True, *[False] * len(whole), True]
    assert {row["reject_reason"] for row in found[6:-1]} == {"truncated body"}


def test_many_blocks_with_a_dead_letter_here_and_there_keep_their_order(monkeypatch):
    monkeypatch.setattr("k2_market.messages.block_decoder.MESSAGES_PER_BLOCK", 100)
    broken = {0, 99, 100, 250, 251, 252, 777, 999}
    values = [message(trade(trade_id=f"t{place}"))[: -1 if place in broken else None] for place in range(1_000)]

    found = rows(values)

    assert [row["trade_id"] for row in found] == [None if p in broken else f"t{p}" for p in range(1_000)]


def test_writers_of_two_schemas_may_alternate():
    later = altered(TRADE, venue="string")
    values = [
        message(trade(trade_id=f"t{place}", venue="X"), (TRADE, later)[place % 2], SCHEMA_ID + place % 2)
        for place in range(60)
    ]

    found = rows(values, {SCHEMA_ID: TRADE, SCHEMA_ID + 1: later})

    assert [row["trade_id"] for row in found] == [f"t{place}" for place in range(60)]
    assert [row["schema_id"] for row in found] == [SCHEMA_ID, SCHEMA_ID + 1] * 30
    assert [dict(row["attributes"]) for row in found[:2]] == [{"venue": "TM"}, {"venue": "X"}]


def test_a_map_with_a_key_twice_keeps_the_last_value():
    once = message(trade(attributes={"k": "1", "l": "2"}))
    twice = once.replace(b"\x02k\x021\x02l\x022", b"\x02k\x021\x02k\x022")
    assert twice != once

    first, second = rows([once, twice])

    assert (first["attributes"], second["attributes"]) == ([("k", "1"), ("l", "2")], [("k", "2")])


def test_schema_ids_are_those_that_headers_name():
    values = [message(trade()), frame(9, b""), b"\x00\xff\xff\xff\xff", b"\x01\x00\x00\x00\x01", b"", None]

    assert schema_ids(batch(*values)) == {SCHEMA_ID, 9}
    assert schema_ids(batch()) == frozenset()


# Properties: whatever is written, block reading, fastavro reading and the plain decoder of these tests agree.

SYMBOLS = st.sampled_from(
    ["BHP", "BRK.B", "ES=F", "XBT/USD:PERP", "A B", "", " A", "=A", "A..B", "é", "A'", "A" * 65, "B\u200b", "币"]
)
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(["t" * 256, "é" * 256, "é" * 257]))
TIMESTAMPS = st.one_of(
    st.integers(OPEN_US - 10**9, OPEN_US + 10**9),
    st.sampled_from([0, -1, 1, OPEN_MS, 2**63 - 1, -(2**63), 9_214_646_399_999_999, 9_214_646_400_000_000]),
)
DATES = st.one_of(
    st.just(date(2014, 3, 11)),
    st.dates(date(2014, 3, 9), date(2014, 3, 23)),
    st.dates(date(1, 1, 1), date(9999, 12, 31)),
)


def decimals(of: pa.Decimal128Type) -> st.SearchStrategy[Decimal]:
    largest = 10**of.precision - 1
    return st.integers(-largest, largest).map(lambda unscaled: Decimal(f"{unscaled}e-{of.scale}"))


def rarely(usual: Any, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda dice: odd if dice == 0 else st.just(usual))


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "message_id": rarely("m", TEXTS),
    "trade_id": rarely("t", TEXTS),
    "symbol": rarely("BHP", SYMBOLS),
    "exchange": rarely("ASX", TEXTS),
    "asset_class": st.sampled_from(["equities", "crypto", "futures", "options"]),
    "exchange_timestamp": rarely(OPEN_US, TIMESTAMPS),
    "received_timestamp": rarely(OPEN_US, TIMESTAMPS),
    "trade_date": rarely(date(2014, 3, 11), DATES),
    "price": decimals(PRICE),
    "quantity": decimals(QUANTITY),
    "bid_price": decimals(PRICE),
    "bid_size": decimals(QUANTITY),
    "ask_price": decimals(PRICE),
    "ask_size": decimals(QUANTITY),
    "currency": rarely("AUD", TEXTS),
    "side": st.sampled_from(["BUY", "SELL", "SELL_SHORT", "UNKNOWN"]),
    "conditions": st.lists(rarely("XT", TEXTS | st.sampled_from(["12,37", "1 2|3", "4-5", "[6]", ""])), max_size=3),
    "action": st.sampled_from(["NEW", "CORRECT", "CANCEL"]),
    "corrects_trade_id": st.none() | TEXTS,
    "sequence_number": st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**63), 2**63 - 1),
    "attributes": st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3),
}

VENUE = {"type": "enum", "name": "Venue", "symbols": ["LIT", "DARK"]}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
CENTS = st.integers(-(10**12) + 1, 10**12 - 1).map(lambda cents: Decimal(cents).scaleb(-2))
TAGS = {"type": "array", "items": "long"}
LEG = {
    "type": "record",
    "name": "Leg",
    "fields": [{"name": "ratio", "type": "int"}, {"name": "code", "type": "string"}],
}
EXTRA: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("string", TEXTS),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("boolean", st.booleans()),
    ("double", st.floats(allow_nan=False)),
    ("bytes", st.binary(max_size=9)),
    ({"type": "fixed", "name": "Digest", "size": 4}, st.binary(min_size=4, max_size=4)),
    (VENUE, st.sampled_from(VENUE["symbols"])),
    (MONEY, CENTS),
    ({"type": "long", "logicalType": "timestamp-micros"}, st.integers(0, 2**52)),
    ({"type": "int", "logicalType": "date"}, DATES),
    ({"type": "array", "items": "string"}, st.lists(st.text(max_size=3), max_size=3)),
    ({"type": "map", "values": "string"}, st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3)),
    (TAGS, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
    (LEG, st.fixed_dictionaries({"ratio": st.integers(-9, 9), "code": st.text(max_size=3)})),
]


@st.composite
def evolved_schemas(draw: st.DrawFn, kind: MessageKind) -> tuple[dict[str, Any], dict[str, st.SearchStrategy[Any]]]:
    """An older or newer schema than ours, and what each of its fields may hold."""
    schema = copy.deepcopy(kind.avro)
    fields, values = [], {}
    for field in schema["fields"]:
        name = field["name"]
        values[name] = FIELDS[name]
        if "default" in field and draw(st.integers(0, 4)) == 0:
            del values[name]
            continue  # written before this field was
        field.pop("default", None)
        if isinstance(field["type"], list) and draw(st.booleans()):
            field["type"] = draw(st.sampled_from([field["type"][::-1], field["type"][1]]))
            if not isinstance(field["type"], list):
                values[name] = FIELDS[name].filter(lambda value: value is not None)
        elif draw(st.integers(0, 5)) == 0 and not isinstance(field["type"], list):
            field["type"] = draw(st.permutations(["null", field["type"]]))
            values[name] = st.none() | FIELDS[name]
        fields.append(field)
    for place in range(draw(st.integers(0, 2))):
        avro_type, strategy = draw(st.sampled_from(EXTRA))
        nullable = draw(st.booleans())
        extra_type = copy.deepcopy(avro_type)
        if isinstance(extra_type, dict) and "name" in extra_type:
            extra_type["name"] += str(place)
        fields.append({"name": f"extra_{place}", "type": ["null", extra_type] if nullable else extra_type})
        values[f"extra_{place}"] = st.none() | strategy if nullable else strategy
    schema["fields"] = draw(st.permutations(fields))
    return schema, values


def corrupted(draw: st.DrawFn, value: bytes, other: bytes) -> bytes | None:
    match draw(st.sampled_from(["cut", "longer", "flip", "joined", "null", "empty", "magic", "id", "number"])):
        case "cut":
            return value[: draw(st.integers(0, len(value) - 1))]
        case "longer":
            return value + draw(st.binary(min_size=1, max_size=4))
        case "flip":
            bit = draw(st.integers(0, len(value) * 8 - 1))
            return bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(value))
        case "joined":
            return value + other[5:]
        case "null":
            return None
        case "empty":
            return b""
        case "magic":
            return draw(st.binary(min_size=1, max_size=1)) + value[1:]
        case "id":
            return value[:1] + draw(st.binary(min_size=4, max_size=4)) + value[5:]
        case _:  # a number as long as a varint gets, somewhere: lengths, counts, indexes, timestamps
            place = draw(st.integers(5, len(value)))
            return value[:place] + draw(st.sampled_from([b"\xff" * 9 + b"\x01", b"\xfe" * 4 + b"\x0f"])) + value[place:]


@st.composite
def batches(draw: st.DrawFn) -> tuple[MessageKind, dict[int, Any], list[bytes | None]]:
    """Messages of our own schema and of an evolved one, some of them broken."""
    kind = draw(st.sampled_from((TRADE_MESSAGES, QUOTE_MESSAGES)))
    ours = kind.avro
    evolved, evolved_values = draw(evolved_schemas(kind))
    writers = {SCHEMA_ID: ours, SCHEMA_ID + 1: evolved}
    parsed = {number: fastavro.parse_schema(copy.deepcopy(schema)) for number, schema in writers.items()}
    contents = {SCHEMA_ID: {f["name"]: FIELDS[f["name"]] for f in ours["fields"]}, SCHEMA_ID + 1: evolved_values}
    values: list[bytes | None] = []
    whole: list[bytes] = []
    for schema_id in draw(st.lists(st.sampled_from(sorted(writers)), min_size=1, max_size=8)):
        record = draw(st.fixed_dictionaries(contents[schema_id]))
        whole.append(message(record, parsed[schema_id], schema_id))
        values.append(corrupted(draw, whole[-1], whole[0]) if draw(st.integers(0, 3)) == 0 else whole[-1])
    return kind, writers, values


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(batches())
def test_block_decoder_and_plain_decoder_agree_on_rows_and_on_dead_letters(drawn):
    kind, writers, values = drawn

    for row, value in zip(rows(values, writers, kind), values, strict=True):
        expected = one_message(value, kind, writers)
        if expected is None:
            assert row["reject_reason"], value
            assert (row["payload"], row["kafka_key"], row["symbol"]) == (value, b"BHP", None)
        else:
            assert row["reject_reason"] is None, (row["reject_reason"], value)
            row["attributes"] = None if row["attributes"] is None else dict(row["attributes"])
            assert {name: row[name] for name in expected} == expected


def test_a_message_that_makes_decoding_fail_is_a_dead_letter_and_its_neighbours_are_rows(monkeypatch):
    resolve = block_decoder.resolve

    def fails_on_x(wire, plan):
        if "x" in wire.column(wire.schema.names[1]).to_pylist():
            raise ZeroDivisionError("a fault of our own\nin two lines \x00")
        return resolve(wire, plan)

    monkeypatch.setattr(block_decoder, "resolve", fails_on_x)
    good = [message(trade(trade_id=f"t-{number}")) for number in range(50)]
    bad = message(trade(trade_id="x"))
    found = rows([*good, bad, b"junk", *good, bad])
    dead = {row["kafka_offset"]: row["reject_reason"] for row in found if row["reject_reason"] is not None}
    reason = "could not be decoded: ZeroDivisionError: a fault of our own\\nin two lines \\x00"
    assert dead == {150: reason, 151: "magic byte 0x6a, expected 0x00", 202: reason}
    assert [row["payload"] for row in found if row["reject_reason"] == reason] == [bad, bad]
    assert [row["trade_id"] for row in found[:50]] == [f"t-{number}" for number in range(50)]


def test_a_reason_is_shown_as_it_is_whatever_a_producer_put_into_it():
    schema = altered(TRADE, price={"type": "record", "name": "R", "fields": []})
    schema["name"] = "T" * 1_000
    told = reason(frame(8, body(trade())), {8: schema})
    assert len(told) == 500
    assert told.endswith("…")
    assert reason_text("a\x00b\ud800c\u202ed\n") == "a\\x00b\\ud800c\\u202ed\\n"
    assert reason_text("schema id 7 (名) lacks price") == "schema id 7 (名) lacks price"


def test_names_that_no_table_can_hold_are_written_out():
    inner = {"type": "record", "name": "R", "fields": [{"name": "\udfff", "type": "int"}]}
    schema = altered(TRADE, **{"\ud800": "string", "nested": inner})
    record = {**trade(attributes=None), "\ud800": "a", "nested": {"\udfff": 1}}
    (row,) = rows([message(record, schema)], {SCHEMA_ID: schema})
    assert row["attributes"] == [("\\ud800", "a"), ("nested", '{"\\udfff":1}')]


@pytest.mark.parametrize(
    ("registered", "expected"),
    [
        (UnusableSchema("is a JSON schema; Avro is expected"), "schema id 7 is a JSON schema; Avro is expected"),
        (altered(TRADE, deep=nested_arrays(400)), "schema id 7 is nested more than 256 levels deep"),
        (altered(TRADE, deep=nested_arrays(70)), "schema id 7 has types nested more than 64 deep"),
    ],
)
def test_messages_of_a_schema_that_can_not_be_used_are_dead_letters_and_others_are_rows(registered, expected):
    value, neighbour = frame(SCHEMA_ID, body(trade())), frame(8, body(trade()))
    before, dead, after = rows([neighbour, value, neighbour], {8: TRADE, SCHEMA_ID: registered})
    assert (before["reject_reason"], after["reject_reason"]) == (None, None)
    assert (dead["reject_reason"], dead["payload"]) == (expected, value)


def test_a_new_trade_that_bears_the_name_of_a_place_behind_its_own_is_a_dead_letter():
    def of(partition: int, offset: int, **changes: Any) -> bytes:
        return message(trade(trade_id=f"kafka:{TOPIC_ID}:{partition}:{offset}", **changes))

    cancel = {"action": "CANCEL", "corrects_trade_id": f"kafka:{TOPIC_ID}:3:999"}
    values = [of(3, 101), of(3, 1), of(3, 999, **cancel), of(3, 103), of(4, 0), of(2, 999)]
    others = [message(trade(trade_id=f"kafka:other:3:{offset}")) for offset in (0, 999)]
    malformed = [message(trade(trade_id=f"kafka:{TOPIC_ID}:3:{text}")) for text in ("", "999 ", "٣", "9" * 20)]
    found = rows([*values, *others, *malformed])
    refused = [row["kafka_offset"] for row in found if row["reject_reason"] is not None]
    assert refused == [100, 103, 104, 109]  # the last one without the white space behind it
    name = f"kafka:{TOPIC_ID}:3:101"
    assert found[0]["reject_reason"] == f"trade_id {name} is K2's own name for a trade without an id"


def test_messages_that_become_much_larger_as_rows_are_decoded_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(block_decoder, "MAX_TEXT_PER_PART", 10_000)
    schema = altered(TRADE, **{f"a_new_field_{number}": "boolean" for number in range(100)})
    extra = {f"a_new_field_{number}": True for number in range(100)}
    large, usual = message({**trade(), **extra}, schema, schema_id=8), message(trade())
    messages = batch(*[usual] * 10, *[large] * 9, None, b"junk", usual)
    sizes = part_sizes(messages, TRADE_MESSAGES, {SCHEMA_ID: TRADE, 8: schema})
    assert sum(sizes) == len(messages)
    assert sizes[0] >= 10
    assert all(1 <= size <= 4 for size in sizes[1:-1])
    assert part_sizes(batch(*[usual] * 5_000), TRADE_MESSAGES, WRITERS) == [5_000]
    parts = [
        decode(messages.part(start, start + size), TRADE_MESSAGES, {SCHEMA_ID: TRADE, 8: schema}, DAYS)
        for start, size in zip(accumulate([0, *sizes]), sizes, strict=False)
    ]
    assert pa.concat_tables(parts).equals(decode(messages, TRADE_MESSAGES, {SCHEMA_ID: TRADE, 8: schema}, DAYS))


def test_a_part_of_a_batch_is_that_part_of_each_column():
    whole = batch(b"a", None, b"", b"b")
    part = whole.part(1, 3)
    assert (list(part.values), part.offsets, part.correlation_ids) == ([None, b""], [101, 102], ["load-1", "load-2"])


def test_offsets_with_a_schema_are_those_whose_headers_name_it():
    messages = batch(frame(7, b"x"), frame(8, b"x"), None, b"", frame(7, b""), b"\x00\x00")
    assert [str(each) for each in offsets_with_schema(messages, 7)] == [
        f"{TOPIC_ID}/3[100,101)",
        f"{TOPIC_ID}/3[104,105)",
    ]


def any_bytes(seed: int, count: int) -> None:
    """Decode batches of damaged and random bodies of damaged and random schemas; each message must become its row."""
    random = Random(seed)
    for _ in range(count):
        schemas = {number: random_schema(random) for number in range(8, 12)}
        writers = {SCHEMA_ID: TRADE, **schemas}
        values = [damaged(random, writers) for _ in range(40)]
        found = rows(values, writers)
        payloads = [row["payload"] for row in found if row["reject_reason"] is not None]
        assert payloads == [v for v, row in zip(values, found, strict=True) if row["reject_reason"] is not None]
        alone = [rows([value], writers)[0] for value in values]
        placed = ("kafka_offset", "correlation_id")
        for together, by_itself in zip(found, alone, strict=True):
            assert {k: v for k, v in together.items() if k not in placed} == {
                k: v for k, v in by_itself.items() if k not in placed
            }


def random_schema(random: Random) -> Any:
    """K2's own schema with fields of random types, some of which no value has."""
    schema = altered(TRADE, **{f"new_{number}": random_type(random, 4) for number in range(random.randrange(4))})
    if random.random() < 0.2:
        field = random.choice(schema["fields"])
        field["type"] = random_type(random, 2)
    return schema


def random_type(random: Random, depth: int) -> Any:
    kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string", "fixed", "enum", "decimal"]
    kind = random.choice(kinds + ["array", "map", "union", "record"] * bool(depth))
    name = f"N{random.getrandbits(40)}"
    match kind:
        case "fixed":
            return {"type": "fixed", "name": name, "size": random.choice([0, 1, 8, 70_000])}
        case "enum":
            return {"type": "enum", "name": name, "symbols": [f"S{number}" for number in range(random.randint(1, 4))]}
        case "decimal":
            scale = random.choice([0, 3, 38, 10**9])
            return {"type": "bytes", "logicalType": "decimal", "precision": scale + 5, "scale": scale}
        case "array":
            return {"type": "array", "items": random_type(random, depth - 1)}
        case "map":
            return {"type": "map", "values": random_type(random, depth - 1)}
        case "union":
            return [random_type(random, 0) for _ in range(random.randint(0, 4))]
        case "record":
            fields = [{"name": f"f{number}", "type": random_type(random, depth - 1)} for number in range(3)]
            return {"type": "record", "name": name, "fields": fields}
    return kind


def damaged(random: Random, writers: dict[int, Any]) -> bytes | None:
    """A trade's body with bytes behind it, cut, changed, or with a number of any size in it, under any of the ids."""
    value = bytearray(body(trade(trade_id=f"t{random.randrange(100)}")))
    for _ in range(random.choice([0, 0, 1, 3])):
        place = random.randrange(len(value) + 1)
        match random.randrange(5):
            case 0:
                del value[place:]
            case 1:
                value += random.randbytes(random.randrange(30))
            case 2:
                value[place : place + 1] = random.randbytes(1)
            case 3:  # counts and lengths of any size, negative ones among them
                value[place:place] = _zigzag(random.choice([-1, 1]) * 2 ** random.randrange(64))
            case 4:
                value += b"\x02" * random.randrange(200) + b"\x00" * random.randrange(200)
    whole = frame(random.choice([*writers, 2**31 - 1, 0]), bytes(value))
    return random.choice([whole, whole, whole, None, whole[: random.randrange(6)], b"\x00\xff\xff\xff\xff" + value])


def _zigzag(number: int) -> bytes:
    left, out = ((number << 1) ^ (number >> 63)) & (2**64 - 1), bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    return bytes([*out, left])


def test_any_bytes_of_any_schema_become_a_row_each_and_the_same_row_beside_whatever_neighbours():
    any_bytes(seed=1, count=6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_more_bytes_of_any_schema_become_a_row_each(seed):
    any_bytes(seed, count=60)
