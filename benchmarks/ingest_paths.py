"""The ways from a topic to a table that ``make bench-ingest`` compares, each a function for a process of its own."""

import gc
import time
import uuid
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from benchmarks.ingest_topics import QUOTES
from k2_assets.names import ingest_op_name
from k2_market.feeds.feed import Feed, Topics, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.ledger import spans_to_json
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.plans.ingest_plan import MAX_MESSAGES_PER_RUN, limited
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.runtime.process import loaded_for_good
from k2_resources.settings import SHIPPED_FEEDS

_CALL_MESSAGES = 4_000
_ROWS_AN_APPEND = 50_000


def bench_feed(topic: str) -> Feed:
    """The feed that ships for simulated markets, with another topic."""
    shipped = load_feeds([SHIPPED_FEEDS])["sim"]
    return shipped.model_copy(update={"topics": Topics(trades=topic)})


def plans(bootstrap_servers: str, topic: str, most: int = MAX_MESSAGES_PER_RUN) -> list[dict[str, Any]]:
    """The runs that the sensor would request one after the other, as their configurations, each of so many messages."""
    state = KafkaTopics(bootstrap_servers).state(topic)
    assert state is not None
    left, found = state.readable, []
    while left:
        part = limited(left, most)
        found.append({"topic_id": state.topic_id, "ranges": spans_to_json(part)})
        left = left - part
    return found


def k2_run(home: str, bootstrap_servers: str, registry_url: str, topic: str, plan: dict[str, Any]) -> dict[str, Any]:
    """An ingest run of the feed's ``raw_trades`` asset, as its job does it."""
    with loaded_for_good():  # as ``k2_platform.code_location``, which a run's process loads
        from benchmarks.ingest_topics import DAY
        from k2_assets.names import ingest_job_name
        from k2_platform.catch_up import local_instance
        from k2_platform.definitions import build_defs
        from k2_resources.logs.structured_logging import configure_logging
        from k2_resources.settings import Settings

        settings = Settings(home=Path(home), kafka_bootstrap=bootstrap_servers, registry_url=registry_url)
        configure_logging("bench-ingest", settings)
        feed = bench_feed(topic)
        definitions = build_defs(settings=settings, feeds={feed.name: feed})
    job = definitions.resolve_job_def(ingest_job_name(feed.name, TRADES))
    with local_instance(settings) as instance:
        done = job.execute_in_process(
            instance=instance,
            partition_key=DAY.isoformat(),
            run_config={"ops": {ingest_op_name(feed.name, TRADES): {"config": plan}}},
            raise_on_error=True,
        )
    return {"run_id": done.run_id}


def k2_quotes(home: str, bootstrap_servers: str, registry_url: str, topic: str, plan: dict[str, Any]) -> dict[str, Any]:
    """The same for quotes, without a Dagster run: the family has no asset of them yet."""
    from datetime import UTC, datetime

    from k2_assets.ingestion import Ingestion
    from k2_market.feeds.day_window import DayWindow
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.kafka.schema_registry import SchemaRegistry
    from k2_resources.raw.table import RawTable

    feed, run_id = bench_feed(topic), str(uuid.uuid4())
    catalog = open_catalog(f"sqlite:///{home}/catalog.db", f"file://{home}/warehouse")
    ingestion = Ingestion(
        feed=feed.name,
        topic=topic,
        reader=TopicReader(bootstrap_servers, topic, "bench"),
        registry=SchemaRegistry(registry_url),
        table=RawTable(catalog, feed.name, QUOTES),
        window=DayWindow.of(feed, datetime.now(UTC)),
        published_days=frozenset(),
        run_id=run_id,
    )
    ranges = RangeSet.of(
        OffsetRange(plan["topic_id"], int(partition), start, end)
        for partition, spans in plan["ranges"].items()
        for start, end in spans
    )
    ingestion.run(ranges, RangeSet())
    return {"run_id": run_id}


def consume_alone(bootstrap_servers: str, topic: str, messages: int) -> dict[str, Any]:
    """The limit: the client's messages, let go as they come. Settings as K2's reader has them."""
    state = KafkaTopics(bootstrap_servers).state(topic)
    assert state is not None
    consumer = TopicReader(bootstrap_servers, topic, "bench")._consumer()
    consumer.assign([TopicPartition(topic, each.partition, each.low) for each in state.partitions])
    gc.disable()
    started = time.time()
    left = messages
    while left > 0:
        left -= len([each for each in consumer.consume(_CALL_MESSAGES, timeout=0.1) if each.error() is None])
    ended = time.time()
    consumer.close()
    return {"commits": [[started, 0], [ended, messages]]}


def one_at_a_time(
    home: str, bootstrap_servers: str, registry_url: str, topic: str, kind: str, messages: int
) -> dict[str, Any]:
    """The way that most examples show: poll, deserialize, a dictionary a row, ``from_pylist``, append."""
    import pyarrow as pa
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from confluent_kafka.serialization import MessageField, SerializationContext
    from pyiceberg.catalog.sql import SqlCatalog

    messages_of = {each.name: each.messages for each in (TRADES, QUOTES)}
    schema = pa.schema(messages_of[kind].message_fields)
    catalog = SqlCatalog("plain", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}/warehouse")
    catalog.create_namespace_if_not_exists("plain")
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry_url}))
    state = KafkaTopics(bootstrap_servers).state(topic)
    assert state is not None
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "plain", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, each.partition, each.low) for each in state.partitions])
    context = SerializationContext(topic, MessageField.VALUE)
    table, rows, commits, done = None, [], [[time.time(), 0]], 0
    while done < messages:
        message = consumer.poll(0.1)
        if message is None or message.error() is not None:
            continue
        row = deserialize(message.value(), context)
        row["attributes"] = row["attributes"] and list(row["attributes"].items())
        rows.append(row)
        if len(rows) == _ROWS_AN_APPEND or done + len(rows) == messages:
            batch = pa.Table.from_pylist(rows, schema)
            table = table or catalog.create_table("plain.trades", schema)
            table.append(batch)
            done += len(rows)
            commits.append([time.time(), done])
            rows = []
    consumer.close()
    return {"commits": commits}


def commits_of(home: str, table: str, run_id: str) -> list[list[float]]:
    """When each commit of a run of K2's was made (seconds since 1970), and how many rows it added."""
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.iceberg.snapshot_summary import RUN_ID

    loaded = open_catalog(f"sqlite:///{home}/catalog.db", f"file://{home}/warehouse").load_table(table)
    summaries = [(each.timestamp_ms / 1000, each.summary) for each in loaded.snapshots()]
    return [
        [made, int(summary["added-records"] or 0)]
        for made, summary in summaries
        if summary is not None and summary.get(RUN_ID) == run_id
    ]
