"""Sends a feed's trades to its Kafka topic: at least once, without duplicates from retries (#010), or says what is not.

A symbol's trades go to one partition, in the order in which they were given (#009).

Kafka forgets a producer, and with it which of its messages it has, once the newest record time of that producer is
older than the broker's ``producer.id.expiration.ms``. Record time is exchange time, so for trades that are older
than that, messages that were under way when a broker crashed can arrive twice. Trades downstream are unique by id.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import polars as pl
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2_market.errors import K2Error
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.avro import subject_of
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.logs.structured_logging import (
    correlation,
    get_logger,
    kafka_client_logger,
    kafka_error_callback,
    timed,
)

CORRELATION_HEADER = "correlation_id"

DELIVERY_TIMEOUT_SECONDS = 120.0
"""Time until a message is given up: longer than a broker's restart, and then an error, not a hang."""

_ROWS_AT_ONCE = 20_000
_POLL_SECONDS = 0.05
_FLUSH_MARGIN_SECONDS = 5.0

_LOGGER = get_logger("producer")


class ProduceError(K2Error):
    """Some messages were not confirmed by the broker."""


def producer_settings(
    bootstrap_servers: str, delivery_timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS
) -> Mapping[str, str | int | bool]:
    """Return the producer's settings, of librdkafka.

    Retries have no count of their own: they end with the delivery timeout, so that three failures within a second do
    not lose what the fourth attempt would have delivered. lz4 in place of #010's snappy compresses as quickly and
    better. Keys go to partitions as Java's clients put them (murmur2), so that producers of either kind agree.
    """
    return {
        "bootstrap.servers": bootstrap_servers,
        "enable.idempotence": True,
        "acks": "all",
        "max.in.flight.requests.per.connection": 5,
        "delivery.timeout.ms": int(delivery_timeout_seconds * 1_000),
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "reconnect.backoff.max.ms": 1_000,
        "linger.ms": 20,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 262_144,
        "delivery.report.only.error": True,
    }


@dataclass(frozen=True)
class Sent:
    """Describes what was sent and confirmed."""

    topic: str
    messages: int
    seconds: float


class TradeProducer:
    """Sends messages of one feed and kind; the topic must be there (``kafka_topic_creation``)."""

    def __init__(
        self,
        bootstrap_servers: str,
        registry: SchemaRegistry,
        feed: Feed,
        kind: RawKind,
        delivery_timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS,
    ) -> None:
        """Registers the schema; the brokers are looked for when something is sent.

        Raises:
            RegistryUnavailable: The registry can't be reached.
            SchemaRefused: The registry has schemas under the topic's subject that this one does not fit.
            ProduceError: The feed has no topic for messages of this kind.
        """
        topic = kind.topic_of(feed.topics)
        if topic is None:
            raise ProduceError(f"feed {feed.name} has no topic for {kind.name}; name it in its file, under [topics]")
        self.feed = feed
        self.topic = topic
        self.schema_id = registry.register(subject_of(topic), kind.messages.avro)
        self._settings = producer_settings(bootstrap_servers, delivery_timeout_seconds)
        self._flush_seconds = delivery_timeout_seconds + _FLUSH_MARGIN_SECONDS

    def send_trades(self, trades: pl.DataFrame, correlation_id: str) -> Sent:
        """Send ``SOURCE_TRADE`` rows in their order; as ``send``."""
        batches = (
            trade_messages(trades.slice(start, _ROWS_AT_ONCE), self.feed, self.schema_id)
            for start in range(0, trades.height, _ROWS_AT_ONCE)
        )
        return self.send(batches, trades.height, correlation_id)

    def send(self, batches: Iterable[OutgoingMessages], count: int, correlation_id: str) -> Sent:
        """Send messages in their order and wait until the broker has confirmed every one.

        Args:
            batches: The messages.
            count: How many they are in all.
            correlation_id: Goes into every message's header, and with it to whatever becomes of the message.

        Raises:
            ProduceError: Some were not confirmed in time; says how many and why. Nothing is sent after the first
                failure. Sending all of them again is safe: trades downstream are unique by id.
        """
        fields = {"feed": self.feed.name, "topic": self.topic, "messages": count}
        with correlation(correlation_id), timed(_LOGGER, "produce", **fields) as timing:
            delivery = _Delivery(self._settings, self.topic, count, [(CORRELATION_HEADER, correlation_id.encode())])
            for batch in batches:
                delivery.hand_over(batch)
            delivery.wait(self._flush_seconds)
        return Sent(self.topic, count, timing.seconds)


class _Delivery:
    """One sending: hands messages to librdkafka and keeps count of what fails."""

    def __init__(
        self, settings: Mapping[str, Any], topic: str, count: int, headers: list[tuple[str, str | bytes | None]]
    ) -> None:
        logger = kafka_client_logger("kafka-producer")
        own = {"error_cb": kafka_error_callback(logger), "on_delivery": self._on_delivery}
        self._producer = Producer({**settings, **own}, logger=logger)
        self._topic = topic
        self._headers = headers
        self._count = count
        self._handed_over = 0
        self._failed = 0
        self._first_failure: str | None = None

    def hand_over(self, messages: OutgoingMessages) -> None:
        for key, value, timestamp_ms in zip(messages.keys, messages.values, messages.timestamps_ms, strict=True):
            while not self._accepted(key, value, timestamp_ms):
                self._producer.poll(_POLL_SECONDS)
                self._raise_if_failed()
        self._producer.poll(0)
        self._raise_if_failed()

    def wait(self, seconds: float) -> None:
        waiting = self._producer.flush(seconds)
        self._raise_if_failed()
        if waiting:
            self._give_up(f"{waiting} messages had no answer after {seconds:.0f} s")

    def _accepted(self, key: bytes, value: bytes | None, timestamp_ms: int) -> bool:
        """Say whether the client took a message; not while its queue is full."""
        try:
            self._producer.produce(self._topic, value, key, timestamp=timestamp_ms, headers=self._headers)
        except BufferError:
            return False
        except KafkaException as error:
            self._give_up(f"{self._topic}: {error.args[0].str()}")
        self._handed_over += 1
        return True

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed += 1
            if self._first_failure is None:
                self._first_failure = f"{message.topic()} partition {message.partition()}: {error.str()}"

    def _raise_if_failed(self) -> None:
        if self._first_failure is not None:
            self._give_up(self._first_failure)

    def _give_up(self, reason: str) -> NoReturn:
        self._producer.purge()
        unanswered = self._producer.flush(_FLUSH_MARGIN_SECONDS)
        unsent = self._failed + unanswered + self._count - self._handed_over
        raise ProduceError(
            f"{unsent} of {self._count} messages were not confirmed by the broker; first failure: {reason}. "
            "Send all of them again once it is mended: trades that arrived before count once."
        )
