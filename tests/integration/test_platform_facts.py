"""What the exporter reads from a real broker and from real Iceberg tables."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog import Catalog

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.exporter.kafka_facts import KafkaFacts
from k2_resources.exporter.page import Part
from k2_resources.exporter.table_facts import TableFacts
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import METRICS
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

DAY = date(2014, 3, 11)
FIRST_MS = 1_394_492_400_000
FEED = {"exchange": "ASX", "asset_class": "equities", "feed": "asx"}
RAW = {**FEED, "table": "raw_trades"}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


@pytest.fixture
def feed() -> Feed:
    asx = load_feeds(Settings().feed_directories)["asx"]
    topic = f"market.equities.trades.facts-{uuid.uuid4().hex[:8]}"
    return asx.model_copy(update={"topics": asx.topics.model_copy(update={"trades": topic})})


@pytest.fixture
def topic(kafka: Any, feed: Feed) -> Iterator[str]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    name = feed.topics.trades
    admin.create_topics([NewTopic(name, 3, 1, config={"retention.ms": "-1"})])[name].result(30)
    yield name
    admin.delete_topics([name])[name].result(30)


def produce(kafka: Any, topic: str, partition: int, count: int, first_ms: int = FIRST_MS) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 5})
    for n in range(count):
        producer.produce(topic, key=b"BHP", value=b"x", partition=partition, timestamp=first_ms + n * 1000)
    assert producer.flush(30) == 0


def delivery(topic_id: str, start: int, end: int, *, holes: int = 0, **columns: Any) -> Delivery:
    row = {
        "trade_date": DAY,
        "symbol": "BHP",
        "exchange_timestamp": datetime(2014, 3, 11, tzinfo=UTC),
        "kafka_topic_id": topic_id,
        "kafka_partition": 0,
    }
    rows = [{**row, **columns, "kafka_offset": offset} for offset in range(start, end - holes)]
    covered = RangeSet.of([OffsetRange(topic_id, 0, start, end)])
    return Delivery(pa.Table.from_pylist(rows, schema=RAW_TRADES), covered, {topic_id: "trades"}, "run")


class Values:
    """The figures of one report, by name and labels."""

    def __init__(self, part: Part) -> None:
        figures = Figures()
        part.report(figures)
        self.all = {**figures.gauges(), **figures.counts().counters}

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.all.get((name, METRICS[name].label_values(labels)))


def test_lag_is_what_the_topic_holds_and_the_ledger_lacks(kafka: Any, topic: str, feed: Feed, catalog: Catalog) -> None:
    facts = KafkaFacts(kafka.bootstrap_servers, lambda: catalog, [feed], [TRADES])
    empty = Values(facts)
    assert empty("k2_ingest_lag_seconds", **RAW) == 0
    assert empty("k2_topic_newest_record_timestamp_seconds", **RAW) is None

    produce(kafka, topic, 0, 10)
    produce(kafka, topic, 2, 4, first_ms=FIRST_MS + 60_000)
    behind = Values(facts)
    assert [behind("k2_ingest_lag_messages", **RAW, partition=str(n)) for n in range(3)] == [10, 0, 4]
    assert behind("k2_ingest_lag_seconds", **RAW) == 63
    assert behind("k2_topic_newest_record_timestamp_seconds", **RAW) == FIRST_MS / 1000 + 63
    assert behind("k2_topic_high_watermark", **RAW, partition="2") == 4
    assert behind("k2_topic_low_watermark", **RAW, partition="2") == 0
    assert behind("k2_topic_stable_end", **RAW, partition="2") == 4
    assert behind("k2_topic_partitions", **RAW) == 3
    assert behind("k2_topic_open_transaction_messages", **RAW) == 0
    assert behind("k2_kafka_brokers") == 1

    state = KafkaTopics(kafka.bootstrap_servers).state(topic)
    assert state is not None
    RawTable(catalog, "asx", TRADES).commit(delivery(state.topic_id, 0, 7))
    nearer = Values(facts)
    assert [nearer("k2_ingest_lag_messages", **RAW, partition=str(n)) for n in range(3)] == [3, 0, 4]
    assert nearer("k2_ingest_lag_seconds", **RAW) == 56
    assert nearer("k2_ingest_removed_messages", **RAW) == 0


def test_messages_of_an_open_transaction_are_told_apart(kafka: Any, topic: str, feed: Feed, catalog: Catalog) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic, "linger.ms": 5})
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(3):
        producer.produce(topic, value=b"x", partition=1, timestamp=FIRST_MS)
    assert producer.flush(30) == 0
    values = Values(KafkaFacts(kafka.bootstrap_servers, lambda: catalog, [feed], [TRADES]))
    producer.abort_transaction(30)

    assert values("k2_topic_open_transaction_messages", **RAW) == 3
    assert values("k2_ingest_lag_messages", **RAW, partition="1") == 0


def test_a_topic_that_is_not_there_yet_has_no_figures(kafka: Any, feed: Feed, catalog: Catalog) -> None:
    values = Values(KafkaFacts(kafka.bootstrap_servers, lambda: catalog, [feed], [TRADES]))

    assert set(values.all) == {("k2_kafka_brokers", ())}


def test_a_broker_that_is_away_fails_the_part(feed: Feed, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_resources.kafka.topics.TIMEOUT_SECONDS", 0.5)
    with pytest.raises(KafkaUnavailable):
        Values(KafkaFacts("127.0.0.1:1", lambda: catalog, [feed], [TRADES]))


def test_a_raw_table_tells_its_ledger(feed: Feed, catalog: Catalog) -> None:
    facts = TableFacts(lambda: catalog, [feed], [TRADES])
    assert Values(facts).all == {}
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery("t", 0, 5))
    table.commit(delivery("t", 10, 20, holes=4, reject_reason="not Avro", payload=b"x"))
    values = Values(facts)

    expected = {
        "k2_ingested_messages_total": 11,
        "k2_ledger_holes_total": 4,
        "k2_dead_letters_total": 6,
        "k2_late_rows_total": 0,
        "k2_lost_messages_total": 0,
        "k2_ledger_ranges": 2,
        "k2_ledger_trusted": 1,
        "k2_ledger_unaccounted_rows": 0,
        "k2_table_rows": 11,
        "k2_table_data_files": 2,
        "k2_table_snapshots": 2,
    }
    assert {name: values(name, **RAW) for name in expected} == expected
    files = list((Path(table.view().table.location().removeprefix("file://"))).rglob("*.parquet"))  # type: ignore[union-attr]
    assert values("k2_table_bytes", **RAW) == sum(file.stat().st_size for file in files)
    committed = values("k2_table_last_commit_timestamp_seconds", **RAW)
    assert committed is not None
    assert 0 <= time.time() - committed < 60


def test_a_table_rolled_back_behind_its_ledger_is_told(feed: Feed, catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    first = table.commit(delivery("t", 0, 5))
    table.commit(delivery("t", 5, 9))
    assert first.snapshot_id is not None
    catalog.load_table(("asx", "raw_trades")).manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    values = Values(TableFacts(lambda: catalog, [feed], [TRADES]))

    assert values("k2_ledger_trusted", **RAW) == 0
    assert values("k2_ingested_messages_total", **RAW) is None
    assert values("k2_table_rows", **RAW) == 5


def test_a_derived_table_has_no_ledger_figures(feed: Feed, catalog: Catalog) -> None:
    ensure_table(catalog, "asx", "trades", tables_of(KINDS)["trades"])
    values = Values(TableFacts(lambda: catalog, [feed], [TRADES]))

    assert values("k2_table_rows", **{**RAW, "table": "trades"}) == 0
    assert all(labels[-1] == "trades" and not name.startswith("k2_ledger") for name, labels in values.all)
