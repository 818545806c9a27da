"""Feeds that belong to one test alone: a declaration, a home and a topic that nobody else has."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from recorded_producer import RecordedProducer
from repository import SHIPPED_FEEDS
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed
from trade_batches import simulated_trades

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.topic_state import TopicState
from k2_market.messages.outgoing import OutgoingMessages
from k2_market.schemas.avro import TRADE, subject_of
from k2_platform.catch_up import local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.raw.table import RawTable
from k2_resources.raw.view import RawView
from k2_resources.settings import Settings

PATIENCE_SECONDS = 120
_SHIPPED = SHIPPED_FEEDS / "sim.toml"


@dataclass(frozen=True)
class OwnFeed:
    """A simulated feed of a test's own.

    Attributes:
        feed: Its declaration; it is in a file of ``settings.feeds_dir`` too.
        settings: A home of its own, and where broker and registry are.
        schema_id: The id of its messages' schema.
    """

    feed: Feed
    settings: Settings
    schema_id: int

    def trades(self, count: int, **choices: Any) -> OutgoingMessages:
        """Simulated trades; ``choices`` as for ``simulated_trades``."""
        return simulated_trades(self.feed, self.schema_id, count, **choices)

    def producer(self, bootstrap_servers: str | None = None, **settings: Any) -> RecordedProducer:
        """A producer to its topic that keeps what was acknowledged."""
        return RecordedProducer(bootstrap_servers or self.settings.bootstrap_servers, self.feed.topics.trades, settings)

    def topic(self) -> TopicState:
        """Its topic's logs as they are."""
        found = KafkaTopics(self.settings.bootstrap_servers).state(self.feed.topics.trades)
        assert found is not None, f"no topic {self.feed.topics.trades}"
        return found

    def raw(self) -> RawView:
        """Its raw table as it is."""
        catalog = open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse)
        return RawTable(catalog, self.feed.name, TRADES).view()

    def ledger(self) -> Ledger:
        """Its ledger as it is."""
        return self.raw().ledger

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        """Runs of its home, of some statuses."""
        with local_instance(self.settings) as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=list(statuses))))


def own_feed(
    directory: Path, bootstrap_servers: str, registry_url: str, *, partitions: int = 3, create_at: str | None = None
) -> OwnFeed:
    """Declare a feed, create its topic and register its schema.

    Args:
        directory: Where its home and its file go.
        bootstrap_servers: Where K2 finds the broker.
        registry_url: Where the registry is.
        partitions: Of its topic.
        create_at: Where the broker is for the test itself, unless it is the same place.
    """
    name = f"own_{uuid.uuid4().hex[:10]}"
    text = _SHIPPED.read_text(encoding="utf-8")
    text = text.replace('name = "sim"', f'name = "{name}"').replace(".sim", f".{name}")
    text = text.replace("[topics]", f"[topics]\npartitions = {partitions}")
    (directory / "feeds").mkdir(parents=True)
    (directory / "feeds" / f"{name}.toml").write_text(text, encoding="utf-8")
    settings = Settings(
        home=directory / "home",
        feeds_dir=directory / "feeds",
        kafka_bootstrap=bootstrap_servers,
        registry_url=registry_url,
    )
    feed = load_feeds(settings.feed_directories)[name]
    ensure_topic(create_at or bootstrap_servers, feed.topics.trades, feed.topics)
    wait_until_known(create_at or bootstrap_servers, feed.topics.trades)
    registry = SchemaRegistry(settings.schema_registry_url)
    schema_id = registry.register(subject_of(feed.topics.trades), TRADE)
    return OwnFeed(feed, settings, schema_id)


def wait_until_known(bootstrap_servers: str, topic: str) -> None:
    """Wait until a topic that was created has leaders, and can be asked about."""
    topics = KafkaTopics(bootstrap_servers)

    def known() -> bool:
        try:
            return topics.state(topic) is not None
        except KafkaUnavailable:
            return False

    eventually(known, f"{topic} is known to its broker")


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: It does not within a time that is long for it.
    """

    def not_yet(_: object) -> None:
        raise AssertionError(f"not within {seconds:.0f} s: {what}")

    Retrying(
        retry=retry_if_result(lambda holds: not holds),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(seconds),
        retry_error_callback=not_yet,
    )(condition)
