"""Without a broker: settings, and that a sending that can't succeed ends in time and says so."""

import time
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, cast

import pytest
from free_ports import free_ports
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.trades import TRADES
from k2_market.schemas.avro import QUOTE, TRADE
from k2_market.schemas.message_kinds import QUOTE_MESSAGES
from k2_market.simulation.market_simulator import simulate_day
from k2_resources.kafka import topic_creation as kafka_topic_creation
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic, topic_settings
from k2_resources.kafka.topics import KafkaUnavailable
from k2_resources.kafka.trade_producer import ProduceError, TradeProducer, producer_settings

FEEDS = load_feeds([SHIPPED_FEEDS])
SESSION = Session(datetime(2026, 11, 20, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 21, 0, tzinfo=UTC))


class RegistryFake:
    def __init__(self) -> None:
        self.registered: list[tuple[str, dict[str, Any]]] = []

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        self.registered.append((subject, schema))
        return 7


QUOTES = replace(TRADES, name="quotes", topic_of=lambda topics: topics.quotes, messages=QUOTE_MESSAGES)


@pytest.fixture
def nowhere() -> str:
    """Bootstrap servers where nothing listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def producer(bootstrap: str, feed: Feed = FEEDS["sim"], kind: RawKind = TRADES) -> TradeProducer:
    registry = cast(SchemaRegistry, RegistryFake())
    return TradeProducer(bootstrap, registry, feed, kind, delivery_timeout_seconds=1)


def test_the_producer_is_idempotent_waits_for_all_replicas_and_keeps_order():
    settings = producer_settings("broker:9092")

    assert settings["enable.idempotence"] is True
    assert settings["acks"] == "all"
    assert settings["max.in.flight.requests.per.connection"] == 5
    assert settings["compression.type"] == "lz4"
    assert settings["partitioner"] == "murmur2_random"


def test_retries_are_bounded_by_time_and_not_by_number():
    settings = producer_settings("broker:9092", delivery_timeout_seconds=60)

    assert settings["delivery.timeout.ms"] == 60_000
    assert "retries" not in settings


def test_topics_are_kept_by_size_and_never_by_time():
    topics = FEEDS["sim"].topics.model_copy(update={"retention_bytes": 10**9})

    settings = topic_settings(topics)
    assert (settings["retention.ms"], settings["retention.bytes"]) == ("-1", "1000000000")


@pytest.mark.parametrize(("kind", "schema"), [(TRADES, TRADE), (QUOTES, QUOTE)], ids=["trades", "quotes"])
def test_the_schema_of_the_kind_is_registered_under_the_topics_subject(nowhere, kind, schema):
    registry = RegistryFake()

    made = TradeProducer(nowhere, cast(SchemaRegistry, registry), FEEDS["asx"], kind)

    assert registry.registered == [(f"market.equities.{kind.name}.asx-value", schema)]
    assert (made.topic, made.schema_id) == (f"market.equities.{kind.name}.asx", 7)


def test_a_feed_without_a_topic_for_a_kind_is_refused(nowhere):
    with pytest.raises(ProduceError, match="feed hitbtc has no topic for quotes"):
        producer(nowhere, FEEDS["hitbtc"], QUOTES)


def test_with_no_broker_every_message_is_counted_as_unsent_within_the_delivery_timeout(nowhere):
    trades = simulate_day(FEEDS["sim"], SESSION, date(2026, 11, 20), 50_000, seed=1)
    started = time.monotonic()

    with pytest.raises(ProduceError, match=r"50000 of 50000 messages were not confirmed.*market.equities.trades.sim"):
        producer(nowhere).send_trades(trades, "id-1")

    assert time.monotonic() - started < 20


def test_a_message_that_is_too_large_is_an_error_that_counts_what_is_unsent(nowhere):
    trades = simulate_day(FEEDS["sim"], SESSION, date(2026, 11, 20), 3, seed=1)
    large = trades.with_columns(trade_id=trades["trade_id"] + "x" * 2_000_000)

    with pytest.raises(ProduceError, match=r"3 of 3 messages were not confirmed.*too large"):
        producer(nowhere).send_trades(large, "id-1")


def test_with_no_broker_a_topic_is_not_created_and_the_error_comes_in_time(nowhere, monkeypatch):
    monkeypatch.setattr(kafka_topic_creation, "TIMEOUT_SECONDS", 1.0)
    started = time.monotonic()

    with pytest.raises(KafkaUnavailable, match=rf"Kafka at {nowhere}: .*k2 status"):
        ensure_topic(nowhere, "t", FEEDS["sim"].topics)

    assert time.monotonic() - started < 10
