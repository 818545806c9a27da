"""Topics full of messages of the three shapes that ingestion is measured with."""

import io
from datetime import date
from enum import StrEnum
from typing import Any

import polars as pl
from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer

from benchmarks.bench_stack import BenchStack
from k2_market.avro_schemas import QUOTE, MessageKind, schema_of, subject_of
from k2_market.feed import Feed, Topics
from k2_market.market_simulator import simulate_day
from k2_market.message_framing import frame
from k2_market.outgoing_messages import OutgoingMessages, trade_messages
from k2_market.trading_calendar import TradingCalendar
from k2_resources.kafka_topic_creation import ensure_topic
from k2_resources.kafka_topics import KafkaTopics
from k2_resources.schema_registry import SchemaRegistry
from k2_resources.trade_producer import producer_settings

DAY = date(2026, 11, 20)
_DISTINCT = 500_000
_SYMBOLS = 500
_SEED = 1


class Shape(StrEnum):
    """What the messages of a benchmark's topic are."""

    TRADE = "trade"
    QUOTE = "quote"
    ATTRIBUTES = "trade-with-attributes"

    @property
    def kind(self) -> MessageKind:
        """What K2 takes them for."""
        return MessageKind.QUOTES if self is Shape.QUOTE else MessageKind.TRADES


def filled(stack: BenchStack, feed: Feed, shape: Shape, topic: str, partitions: int, count: int) -> float:
    """Create a topic and send messages to it, unless it is there with so many in it.

    Half a million distinct messages go round until there are enough: what is measured here does not look at ids.

    Returns:
        Mean size of a message's value in bytes.
    """
    ensure_topic(stack.bootstrap_servers, topic, Topics(trades=topic, partitions=partitions))
    schema_id = SchemaRegistry(stack.registry_url).register(subject_of(topic), schema_of(shape.kind))
    messages = shaped(feed, shape, schema_id, min(count, _DISTINCT))
    state = KafkaTopics(stack.bootstrap_servers).state(topic)
    sent = 0 if state is None else len(state.readable)
    producer = Producer(producer_settings(stack.bootstrap_servers))
    while sent < count:
        sent += _send(producer, topic, messages, min(count - sent, len(messages)))
    producer.flush()
    return sum(len(value or b"") for value in messages.values) / len(messages)


def shaped(feed: Feed, shape: Shape, schema_id: int, count: int) -> OutgoingMessages:
    """So many distinct messages of a shape, from a simulated day."""
    trades = simulate_day(feed, TradingCalendar.of(feed).session(DAY), DAY, count, _SEED, _SYMBOLS)
    if shape is Shape.QUOTE:
        return _quotes(trades, feed, schema_id)
    if shape is Shape.ATTRIBUTES:
        pairs = [
            [{"key": "venue", "value": f"V{n % 7}"}, {"key": "latency_us", "value": str(n % 997)}] for n in range(count)
        ]
        trades = trades.with_columns(attributes=pl.Series(pairs, dtype=trades.schema["attributes"]))
    return trade_messages(trades, feed, schema_id)


def _send(producer: Producer, topic: str, messages: OutgoingMessages, count: int) -> int:
    for place in range(count):
        key, value, timestamp_ms = messages.keys[place], messages.values[place], messages.timestamps_ms[place]
        while True:
            try:
                producer.produce(topic, value, key, timestamp=timestamp_ms)
                break
            except BufferError:
                producer.poll(0.05)
    return count


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
