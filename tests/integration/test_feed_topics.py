"""Topics and subjects of a feed are there before anything is loaded."""

import uuid
from pathlib import Path

import dagster as dg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from small_feeds import FILE
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.avro import subject_of
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.feed_topics import declare_topics
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

OTHER_SCHEMA = '{"type": "record", "name": "Tick", "fields": [{"name": "px", "type": "double"}]}'


@pytest.fixture
def settings(stack_settings: Settings, tmp_path: Path) -> Settings:
    """Settings with one feed of the test's own, of trades and quotes."""
    (tmp_path / "feeds").mkdir()
    token = uuid.uuid4().hex[:8]
    text = FILE.format(name="coins", token=token).replace(
        "[topics]", f'[topics]\nquotes = "market.crypto.quotes.coins-{token}"'
    )
    (tmp_path / "feeds" / "coins.toml").write_text(text, encoding="utf-8")
    return stack_settings.model_copy(update={"feeds_dir": tmp_path / "feeds"})


@pytest.fixture
def feed(settings: Settings) -> Feed:
    return load_feeds(settings.feed_directories)["coins"]


def tick(settings: Settings, feed: Feed, instance: dg.DagsterInstance) -> str:
    defs = build_defs(settings=settings, feeds={feed.name: feed})
    sensor = defs.get_sensor_def(f"{feed.name}_kafka_sensor")
    context = dg.build_sensor_context(instance=instance, resources=dict(defs.resources or {}))
    return str(sensor.evaluate_tick(context).skip_message)


def test_a_declared_feed_takes_messages_of_any_producer_and_no_schema_that_k2_cannot_read(
    settings: Settings, feed: Feed
) -> None:
    declared = declare_topics(feed, [TRADES], settings.bootstrap_servers, SchemaRegistry(settings.schema_registry_url))

    assert [topic.created for topic in declared] == [True, True]
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    producer.produce(feed.topics.trades, b"anything")
    assert producer.flush(20) == 0
    registry = SchemaRegistryClient({"url": settings.schema_registry_url})
    assert feed.topics.quotes is not None
    for topic in (feed.topics.trades, feed.topics.quotes):
        assert registry.get_compatibility(subject_of(topic)) == "BACKWARD_TRANSITIVE"
        with pytest.raises(SchemaRegistryError, match="409"):
            registry.register_schema(subject_of(topic), Schema(OTHER_SCHEMA, "AVRO"))
    again = declare_topics(feed, [TRADES], settings.bootstrap_servers, SchemaRegistry(settings.schema_registry_url))
    assert [topic.created for topic in again] == [False, False]


def test_the_kafka_sensor_creates_the_topics_of_a_new_feed(settings: Settings, feed: Feed) -> None:
    with dg.instance_for_test() as instance:
        assert tick(settings, feed, instance) == f"topic {feed.topics.trades} was created"
        assert tick(settings, feed, instance) == f"nothing pending in {feed.topics.trades}"
    assert KafkaTopics(settings.bootstrap_servers).state(feed.topics.trades) is not None


def test_a_topic_that_was_read_and_then_deleted_is_not_created_by_the_sensor(settings: Settings, feed: Feed) -> None:
    registry = SchemaRegistry(settings.schema_registry_url)
    declare_topics(feed, [TRADES], settings.bootstrap_servers, registry)
    note_as_read(settings, feed)
    with dg.instance_for_test() as instance:
        delete(settings, feed.topics.trades)

        assert tick(settings, feed, instance) == f"topic {feed.topics.trades} does not exist yet"
    assert KafkaTopics(settings.bootstrap_servers).state(feed.topics.trades) is None


def note_as_read(settings: Settings, feed: Feed) -> None:
    """Have the ledger know the topic, as after an ingest run."""
    topic = KafkaTopics(settings.bootstrap_servers).state(feed.topics.trades)
    assert topic is not None
    raw = RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, TRADES)
    covered = RangeSet.of([OffsetRange(topic.topic_id, 0, 0, 1)])
    raw.commit(Delivery(RAW_TRADES.empty_table(), covered, {topic.topic_id: topic.name}, "run"))


def delete(settings: Settings, name: str) -> None:
    """Delete a topic and wait until the broker does not know it any more."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    admin.delete_topics([name])[name].result(30)
    gone = Retrying(retry=retry_if_result(bool), stop=stop_after_delay(30), wait=wait_fixed(0.2))
    gone(lambda: KafkaTopics(settings.bootstrap_servers).state(name) is not None)
