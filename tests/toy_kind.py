"""A second kind, as a later K2 may ship one: marks, a value of an instrument at a time, in a topic of their own."""

import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa

from k2_market.feeds.feed import Feed
from k2_market.frames.day_batches import DayBatches, frames
from k2_market.kinds.raw_kind import RawKind, RawRule
from k2_market.messages.framing import frame
from k2_market.quality.finding import Finding, Severity
from k2_market.quality.raw_rules import dead_letters
from k2_market.schemas.avro import QUOTE, TRADE, AvroSchema
from k2_market.schemas.message_kinds import MessageKind
from k2_market.schemas.tables import KAFKA_FIELDS, RAW_QUOTES

VALUE = pa.decimal128(12, 3)
DAY = date(2026, 11, 20)
OPEN = datetime(2026, 11, 20, 15, tzinfo=UTC)

_TRADE_FIELDS = {field["name"] for field in TRADE["fields"]}
_SHARED = [field for field in QUOTE["fields"] if field["name"] in _TRADE_FIELDS]
MARK: AvroSchema = {
    "type": "record",
    "name": "Mark",
    "namespace": "k2.market",
    "fields": [
        *_SHARED,
        {"name": "value", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}},
    ],
}


def _values_not_negative(_: Feed, day: DayBatches) -> Finding:
    below = sum(rows.filter(pl.col("value") < 0).height for rows in frames(day, ["value"]))
    return Finding("values_not_negative", not below, Severity.WARN, f"{below} below zero.", numbers={"below": below})


MARKS = RawKind(
    name="marks",
    topic_of=lambda topics: topics.trades.replace(".trades.", ".marks."),
    messages=MessageKind(
        avro=MARK,
        rows=pa.schema(
            [
                *(RAW_QUOTES.field(field["name"]) for field in _SHARED),
                pa.field("value", VALUE),
                *KAFKA_FIELDS,
            ]
        ),
    ),
    raw_table="raw_marks",
    derived={},
    rules=(
        RawRule("dead_letters", "Every message of the day could be decoded.", lambda _, day: dead_letters(day)),
        RawRule("values_not_negative", "No mark is below zero.", _values_not_negative),
    ),
    family_suffix="__marks",
)


def marks(feed: Feed, schema_id: int, values: Sequence[str], first: int = 0) -> list[bytes]:
    """Give a message for each value, a second apart."""
    schema = fastavro.parse_schema(MARK)
    return [_message(feed, schema_id, schema, Decimal(value), first + n) for n, value in enumerate(values)]


def _message(feed: Feed, schema_id: int, schema: Any, value: Decimal, number: int) -> bytes:
    at = OPEN + timedelta(seconds=number)
    written = io.BytesIO()
    record = {
        "message_id": f"mark-{number}",
        "symbol": "BHP",
        "exchange": feed.exchange,
        "asset_class": feed.asset_class.value,
        "exchange_timestamp": at,
        "trade_date": DAY,
        "currency": feed.currency,
        "received_timestamp": at,
        "value": value,
    }
    fastavro.schemaless_writer(written, schema, record)
    return frame(schema_id, written.getvalue())
