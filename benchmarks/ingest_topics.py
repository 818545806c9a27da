"""Topics full of messages of the three shapes that ingestion is measured with."""

import io
from datetime import date
from enum import StrEnum
from typing import Any

import polars as pl
from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer

from benchmarks.bench_stack import BenchStack
from k2_market.feeds.feed import Feed, Topics
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.trades import TRADES
from k2_market.messages.framing import frame
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.avro import QUOTE, subject_of
from k2_market.schemas.message_kinds import QUOTE_MESSAGES
from k2_market.simulation.market_simulator import simulate_day
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.kafka.trade_producer import producer_settings

DAY = date(2026, 11, 20)
_ROWS_AT_ONCE = 100_000
_SYMBOLS = 500
_SEED = 1


QUOTES = RawKind(
    name="quotes",
    topic_of=lambda topics: topics.quotes,
    messages=QUOTE_MESSAGES,
    raw_table="raw_quotes",
    derived={},
    rules=(),
    family_suffix="__quotes",
)
"""A kind of quotes for measuring ingestion; K2 ships none yet."""


class Shape(StrEnum):
    """What the messages of a benchmark's topic are."""

    TRADE = "trade"
    QUOTE = "quote"
    ATTRIBUTES = "trade-with-attributes"

    @property
    def kind(self) -> RawKind:
        """What K2 takes them for."""
        return QUOTES if self is Shape.QUOTE else TRADES


def filled(stack: BenchStack, feed: Feed, shape: Shape, topic: str, partitions: int, count: int) -> float:
    """Create a topic and send a simulated day's messages to it, unless it is there and full.

    Returns:
        Mean size of a message's value in bytes.
    """
    ensure_topic(stack.bootstrap_servers, topic, Topics(trades=topic, partitions=partitions))
    schema_id = SchemaRegistry(stack.registry_url).register(subject_of(topic), shape.kind.messages.avro)
    trades = simulate_day(feed, TradingCalendar.of(feed).session(DAY), DAY, count, _SEED, _SYMBOLS)
    state = KafkaTopics(stack.bootstrap_servers).state(topic)
    there = 0 if state is None else len(state.readable)
    if there not in (0, count):
        raise ValueError(f"topic {topic} holds {there} messages, expected none or {count}: give another --keep")
    if not there:
        producer = Producer(producer_settings(stack.bootstrap_servers))
        for start in range(0, count, _ROWS_AT_ONCE):
            _send(producer, topic, _shaped(trades.slice(start, _ROWS_AT_ONCE), feed, shape, schema_id))
        producer.flush()
    sample = _shaped(trades.head(_ROWS_AT_ONCE), feed, shape, schema_id)
    return sum(len(value or b"") for value in sample.values) / len(sample)


def _shaped(trades: pl.DataFrame, feed: Feed, shape: Shape, schema_id: int) -> OutgoingMessages:
    if shape is Shape.QUOTE:
        return _quotes(trades, feed, schema_id)
    if shape is Shape.ATTRIBUTES:
        pairs = [
            [{"key": "venue", "value": f"V{number % 7}"}, {"key": "latency_us", "value": str(number % 997)}]
            for number in range(trades.height)
        ]
        trades = trades.with_columns(attributes=pl.Series(pairs, dtype=trades.schema["attributes"]))
    return trade_messages(trades, feed, schema_id)


def _send(producer: Producer, topic: str, messages: OutgoingMessages) -> None:
    for key, value, timestamp_ms in zip(messages.keys, messages.values, messages.timestamps_ms, strict=True):
        while True:
            try:
                producer.produce(topic, value, key, timestamp=timestamp_ms)
                break
            except BufferError:
                producer.poll(0.05)


def _quotes(trades: pl.DataFrame, feed: Feed, schema_id: int) -> OutgoingMessages:
    """A quote a trade: its price as the bid, a cent more as the ask."""
    schema, header = parse_schema(QUOTE), frame(schema_id, b"")
    values: list[bytes | None] = []
    for number, trade in enumerate(trades.iter_rows(named=True)):
        value = io.BytesIO()
        value.write(header)
        schemaless_writer(value, schema, _quote(trade, feed, number))
        values.append(value.getvalue())
    timestamps_ms = (trades["exchange_timestamp_us"] // 1_000).to_list()
    return OutgoingMessages([symbol.encode() for symbol in trades["symbol"].to_list()], values, timestamps_ms)


def _quote(trade: dict[str, Any], feed: Feed, number: int) -> dict[str, Any]:
    return {
        "message_id": f"{number:032x}",
        "symbol": trade["symbol"],
        "exchange": feed.exchange,
        "asset_class": feed.asset_class.value,
        "exchange_timestamp": trade["exchange_timestamp_us"],
        "trade_date": trade["trade_date"],
        "bid_price": trade["price"],
        "bid_size": trade["quantity"],
        "ask_price": trade["price"] + type(trade["price"])("0.01"),
        "ask_size": trade["quantity"],
        "currency": feed.currency,
        "sequence_number": trade["sequence_number"],
        "received_timestamp": trade["received_timestamp_us"],
        "attributes": None,
    }
