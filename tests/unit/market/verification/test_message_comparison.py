"""Rows held against their messages, one at a time."""

from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
from avro_messages import DAYS, SCHEMA_ID, altered, batch, message, trade

from k2_market.messages.batch import MessageBatch
from k2_market.messages.block_decoder import decode
from k2_market.messages.writer_schemas import ReferringSchema, UnusableSchema, WriterSchema
from k2_market.schemas.avro import TRADE
from k2_market.schemas.message_kinds import TRADE_MESSAGES
from k2_market.verification.message_comparison import ComparedColumns, Comparison, schema_ids, trading_days

SCHEMAS: dict[int, WriterSchema] = {SCHEMA_ID: TRADE}


def rows_of(messages: MessageBatch, schemas: dict[int, WriterSchema] = SCHEMAS) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(decode(messages, TRADE_MESSAGES, schemas, DAYS)))


def compared(messages: MessageBatch, rows: pl.DataFrame, schemas: dict[int, WriterSchema] = SCHEMAS) -> Comparison:
    found = Comparison(ComparedColumns.of(TRADE_MESSAGES))
    found.add(messages, rows, schemas)
    return found


def examples(found: Comparison) -> list[str]:
    return [each.what for each in found.examples]


def test_rows_that_say_what_their_messages_say_do_not_differ() -> None:
    messages = batch(
        message(trade()),
        message(trade(trade_id=" t-9\ufeff", symbol="\u3000BHP ", conditions=["12, 37|x", "", "Z"])),
        message(trade(attributes=None, sequence_number=None, conditions=[], corrects_trade_id="t-0", action="CORRECT")),
        None,
        b"",
        b"\x00\x00",
        message(trade(symbol="..")),
        message(trade(), schema_id=9),
    )
    found = compared(messages, rows_of(messages))
    assert (found.compared, found.differing) == (8, 0)


def test_a_swapped_pair_differs_at_both_offsets() -> None:
    messages = batch(message(trade(message_id="a", price=Decimal("1.5"))), message(trade(message_id="b")))
    rows = rows_of(messages).with_columns(kafka_offset=pl.col("kafka_offset").reverse())
    found = compared(messages, rows)
    assert found.differing == 2
    assert {each.offset for each in found.examples} == {100, 101}
    assert examples(found)[1].startswith(
        "message_id is 'a', its message says 'b'; price is 1.5, its message says 36.45"
    )


def test_every_column_that_differs_is_named() -> None:
    messages = batch(message(trade()))
    rows = rows_of(messages)
    for column, value in {
        "symbol": pl.lit("RIO"),
        "price": (pl.col("price") + Decimal("0.0000000001")).cast(pl.Decimal(18, 10)),
        "quantity": (pl.col("quantity") * 2).cast(pl.Decimal(18, 8)),
        "trade_date": pl.lit(date(2014, 3, 12)),
        "exchange_timestamp": pl.col("exchange_timestamp") + pl.duration(microseconds=1),
        "side": pl.lit("SELL"),
        "conditions": pl.lit(["XT", "XT"], dtype=pl.List(pl.String)),
        "sequence_number": pl.lit(None, dtype=pl.Int64),
        "kafka_timestamp": pl.col("kafka_timestamp") + pl.duration(milliseconds=1),
        "schema_id": pl.lit(8, dtype=pl.Int32),
        "correlation_id": pl.lit("another"),
        "payload": pl.lit(b"x"),
        "kafka_key": pl.lit(b"x"),
        "attributes": pl.lit(None, dtype=rows.schema["attributes"]),
    }.items():
        found = compared(messages, rows.with_columns(value.alias(column)))
        assert found.differing == 1, column
        assert examples(found)[0].startswith(f"{column} is "), examples(found)


def test_a_dead_letter_must_hold_its_messages_bytes_and_key() -> None:
    messages = batch(b"junk", None)
    rows = rows_of(messages)
    assert compared(messages, rows).differing == 0
    found = compared(messages, rows.with_columns(payload=pl.lit(b"junk")))
    assert examples(found) == ["payload is b'junk', its message says None"]


def test_a_row_decoded_from_what_fastavro_can_not_decode_is_named() -> None:
    good = message(trade())
    row = rows_of(batch(good))
    for value, reason in (
        (good[:-3], "fastavro can't decode its message"),
        (good + b"\x00", "1 bytes are left after the record"),
        (None, "its message has no value"),
        (message(trade(), schema_id=9), "its message has no known schema: 0000000009"),
        (b"\x01" + good[1:], "its message has no known schema: 0100000007"),
    ):
        found = Comparison(ComparedColumns.of(TRADE_MESSAGES))
        found.add_content([3], [100], [value], row, SCHEMAS)
        assert found.differing == 1
        assert reason in examples(found)[0]


def test_a_writer_with_fewer_places_another_order_and_fields_of_its_own_is_understood() -> None:
    narrow: Any = altered(TRADE, price={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})
    narrow["fields"] = [*reversed([each for each in narrow["fields"] if each["name"] != "side"])]
    narrow["fields"].append({"name": "venue_code", "type": "string"})
    written = {name: value for name, value in trade(venue_code="X").items() if name != "side"}
    messages = batch(message(written, narrow, 8), message(trade()))
    schemas = {8: narrow, SCHEMA_ID: TRADE}
    rows = rows_of(messages, schemas)
    assert rows["reject_reason"].null_count() == 2
    assert compared(messages, rows, schemas).differing == 0
    assert compared(messages, rows.with_columns(side=pl.lit("BUY")), schemas).differing == 1


def test_rows_without_a_message_among_those_given_are_passed_over() -> None:
    messages = batch(message(trade()))
    assert compared(messages, rows_of(batch(message(trade()), message(trade())))).compared == 1


def test_a_message_says_its_trading_day_if_it_can_be_read() -> None:
    values = [message(trade()), b"junk", None, message(trade(), schema_id=9)]
    assert trading_days(values, SCHEMAS) == [date(2014, 3, 11), None, None, None]
    assert schema_ids(values) == {7, 9}


VENUE = {"type": "enum", "name": "Venue", "namespace": "k2.market", "symbols": ["A", "B"]}


def test_rows_of_a_schema_that_refers_to_another_are_held_against_their_messages() -> None:
    whole = altered(TRADE, venue=VENUE)
    registered = {SCHEMA_ID: ReferringSchema(altered(TRADE, venue="Venue"), (VENUE,))}
    messages = batch(message({**trade(), "venue": "B"}, whole))
    rows = rows_of(messages, registered)
    assert rows["reject_reason"].to_list() == [None]
    assert compared(messages, rows, registered).differing == 0
    changed = rows.with_columns(symbol=pl.lit("RIO"))
    assert examples(compared(messages, changed, registered)) == ["symbol is 'RIO', its message says 'BHP'"]


def test_a_decoded_row_of_a_schema_that_can_not_be_used_is_a_difference_and_others_are_compared() -> None:
    messages = batch(message(trade()), message(trade(), schema_id=8))
    rows = rows_of(messages, {SCHEMA_ID: TRADE, 8: TRADE})
    for unusable in (UnusableSchema("is a JSON schema; Avro is expected"), nested(3_000), 5, None, {"fields": 1}):
        found = compared(messages, rows, {SCHEMA_ID: TRADE, 8: unusable})
        assert found.differing == 1
        assert "its schema 8 can't be used" in examples(found)[0]


def test_a_schema_that_can_not_be_used_tells_no_day_and_keeps_none_from_telling_theirs() -> None:
    values = [message(trade()), message(trade(), schema_id=8)]
    assert trading_days(values, {SCHEMA_ID: TRADE, 8: nested(3_000)}) == [date(2014, 3, 11), None]


def nested(levels: int) -> Any:
    found: Any = "string"
    for _ in range(levels):
        found = {"type": "array", "items": found}
    return altered(TRADE, deep="string") | {"fields": [{"name": "deep", "type": found}]}
