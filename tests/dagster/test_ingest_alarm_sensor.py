"""The ingest alarm sensor on a real catalog, a Dagster instance and a webhook of the test's own; Kafka is a script."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo
from webhook import Webhook, running_webhook

from k2_assets.names import ingest_job_name
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.ledger import PROPERTY
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.alerts.sink import AlertNotSent, AlertSinkResource
from k2_resources.dagster.resources import IcebergCatalogResource, KafkaResource, SchemaRegistryResource
from k2_resources.iceberg.catalog import find_table
from k2_resources.kafka.schema_registry import RegistryUnavailable, SchemaRegistry
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors import ingest_alarms
from k2_sensors.ingest_alarms import build_ingest_alarm_sensor

DAY = date(2014, 3, 10)
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOOK = timedelta(seconds=30)
ORIGIN = RemoteRepositoryOrigin(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file="definitions.py"), location_name="k2"),
    "__repository__",
)


@dataclass
class ScriptedTopics(KafkaTopics):
    """Kafka as the test wants it: topics by name, an error, or no answer until it is let go."""

    topics: dict[str, TopicState] = field(default_factory=dict)
    error: Exception | None = None
    silent: threading.Event | None = None
    newest: datetime | None = None

    def state(self, topic: str) -> TopicState | None:
        if self.silent is not None:
            self.silent.wait(60)
        if self.error is not None:
            raise self.error
        return self.topics.get(topic)

    def newest_record(self, topic: TopicState) -> datetime | None:
        return self.newest


@dataclass
class ScriptedRegistry(SchemaRegistry):
    """A schema registry that knows nothing, or gives an error."""

    error: Exception | None = None

    def writer_schemas(self, ids: Any) -> dict[int, dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return {}


@dataclass
class Platform:
    """Feeds, what they are made of, and the sensor that looks at them every half minute of the test's own time."""

    feeds: list[Feed]
    iceberg: IcebergCatalogResource
    instance: dg.DagsterInstance
    webhook: Webhook
    kafka: ScriptedTopics = field(default_factory=ScriptedTopics)
    registry: ScriptedRegistry = field(default_factory=ScriptedRegistry)
    now: datetime = START
    cursor: str | None = None

    @property
    def raw(self) -> RawTable:
        return self.iceberg.raw_table("asx", TRADES)

    @property
    def topic(self) -> str:
        return self.feeds[0].topics.trades

    def log(self, *partitions: tuple[int, int, int], topic_id: str = "T1") -> None:
        """Give the topic these partitions, each by its low, stable and high offset."""
        states = tuple(PartitionState(n, *each) for n, each in enumerate(partitions))
        self.kafka.topics[self.topic] = TopicState(self.topic, topic_id, states)

    def ingest(self, start: int, end: int, **recorded: RangeSet) -> None:
        rows = [_row(offset) for offset in range(start, end)]
        covered = RangeSet.of([OffsetRange("T1", 0, start, end)] if rows else [])
        table = pa.Table.from_pylist(rows, schema=RAW_TRADES)
        self.raw.commit(Delivery(table, covered, {"T1": self.topic}, f"run-{end}", **recorded))

    def tick(self, after: timedelta = LOOK) -> None:
        self.now += after
        kafka_topics, schema_registry = self.kafka, self.registry

        class Kafka(KafkaResource):
            def topics(self) -> KafkaTopics:
                return kafka_topics

        class Registry(SchemaRegistryResource):
            def registry(self) -> SchemaRegistry:
                return schema_registry

        sensor = build_ingest_alarm_sensor(self.feeds, [TRADES], lambda: self.now)
        resources = {
            "kafka": Kafka(bootstrap_servers="127.0.0.1:1"),
            "iceberg": self.iceberg,
            "registry": Registry(url="http://127.0.0.1:1"),
            "alert_sink": AlertSinkResource(webhook=self.webhook.url),
        }
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources)
        self.cursor = sensor.evaluate_tick(context).cursor

    def ticks(self, lasting: timedelta) -> None:
        until = self.now + lasting
        while self.now < until:
            self.tick()

    @property
    def last(self) -> str:
        """All that the latest message says."""
        return str(self.webhook.taken[-1])

    def sensor_ticked(self, name: str, *statuses: TickStatus) -> None:
        """Enter ticks of a sensor in Dagster's records, half a minute of the test's time apart, each before a look."""
        origin = RemoteInstigatorOrigin(ORIGIN, name)
        selector = origin.get_selector().get_id()
        if not self.instance.get_instigator_state(origin.get_id(), selector):
            data = SensorInstigatorData(min_interval=15)
            state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
            self.instance.add_instigator_state(state)
        for status in statuses:
            cause = SerializableErrorInfo("ValueError: unforeseen", [], "ValueError")
            error = SerializableErrorInfo("SensorExecutionError", [], "SensorExecutionError", cause)
            self.instance.create_tick(
                TickData(
                    instigator_origin_id=origin.get_id(),
                    instigator_name=name,
                    instigator_type=InstigatorType.SENSOR,
                    status=status,
                    timestamp=(self.now + timedelta(seconds=1)).timestamp(),
                    selector_id=selector,
                    error=error if status is TickStatus.FAILURE else None,
                )
            )
            self.tick()


def _row(offset: int) -> dict[str, Any]:
    return {
        "trade_date": DAY,
        "symbol": "BHP",
        "exchange_timestamp": datetime(2014, 3, 10, 0, 0, 1, tzinfo=UTC),
        "trade_id": str(offset),
        "price": Decimal("36.45"),
        "quantity": Decimal(10),
        "kafka_topic_id": "T1",
        "kafka_partition": 0,
        "kafka_offset": offset,
    }


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Ten messages, all of them ingested, and a first look at that."""
    settings = Settings(home=tmp_path / "k2")
    feeds = load_feeds(settings.feed_directories)
    iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    with dg.instance_for_test() as instance, running_webhook() as webhook:
        made = Platform([feeds["asx"], feeds["sim"]], iceberg, instance, webhook)
        made.log((0, 10, 10))
        made.ingest(0, 10)
        made.tick()
        yield made


def test_where_all_is_well_nothing_is_told(platform: Platform) -> None:
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.posts == []


def test_a_table_rolled_back_is_told_once_with_its_exact_ranges(platform: Platform) -> None:
    first = platform.raw.view().table
    assert first is not None
    platform.log((0, 16, 16))
    platform.ingest(10, 16)
    table = find_table(platform.iceberg.catalog(), "asx", "raw_trades")
    table.manage_snapshots().rollback_to_snapshot(first.current_snapshot().snapshot_id).commit()
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["asx/raw_trades: table rolled back"]
    assert "T1/0[10,16)" in platform.last
    assert "k2 repair --feed asx --roll-forward" in platform.last
    assert "http://127.0.0.1:3000/runs|Runs" in platform.last

    table = find_table(platform.iceberg.catalog(), "asx", "raw_trades")
    table.manage_snapshots().set_current_snapshot(
        max(table.metadata.snapshots, key=lambda each: each.timestamp_ms).snapshot_id
    ).commit()
    platform.ticks(timedelta(minutes=10))
    assert len(platform.webhook.posts) == 1


def test_a_ledger_that_cannot_be_read_is_told_once(platform: Platform) -> None:
    table = find_table(platform.iceberg.catalog(), "asx", "raw_trades")
    with table.transaction() as transaction:
        transaction.set_properties({PROPERTY: "{}"})
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["asx/raw_trades: ledger can't be trusted"]


def test_a_topic_made_anew_is_told_once_with_both_ids_and_what_was_never_read(platform: Platform) -> None:
    platform.log((0, 13, 13))
    platform.tick()
    platform.log((0, 2, 2), topic_id="T2")
    platform.ticks(timedelta(minutes=4))

    assert platform.webhook.titles == ["asx/raw_trades: topic recreated"]
    assert "T1 and is T2" in platform.last
    assert "partition 0 to 10" in platform.last
    assert "T1/0[10,13)" in platform.last


def test_a_deleted_topic_is_told_once(platform: Platform) -> None:
    platform.kafka.topics.clear()
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["asx/raw_trades: topic deleted"]


def test_each_range_that_retention_took_is_told_once_before_and_after_it_is_recorded(platform: Platform) -> None:
    platform.log((14, 14, 14))
    platform.tick()
    assert "T1/0[10,14)" in platform.last
    platform.ingest(14, 14, lost=RangeSet.of([OffsetRange("T1", 0, 10, 14)]))
    platform.ticks(timedelta(minutes=10))
    assert len(platform.webhook.posts) == 1

    platform.log((20, 20, 20))
    platform.ticks(timedelta(minutes=10))
    assert platform.webhook.titles == ["asx/raw_trades: offsets lost to retention"] * 2
    assert "T1/0[14,20)" in platform.last
    assert "T1/0[10,14)" not in platform.last


def test_a_log_that_ends_before_the_ledger_is_told_once_with_its_ranges(platform: Platform) -> None:
    platform.log((0, 4, 4))
    platform.ticks(timedelta(minutes=1))
    platform.ingest(14, 14, truncated=RangeSet.of([OffsetRange("T1", 0, 4, 10)]))
    platform.log((0, 40, 40))
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["asx/raw_trades: log truncated"]
    assert "T1/0[4,10)" in platform.last


def test_a_transaction_left_open_is_told_once_with_partition_offset_and_what_waits(platform: Platform) -> None:
    platform.log((0, 10, 17))
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["asx/raw_trades: open transaction holds up readers"]
    assert "Partition 0" in platform.last
    assert "7 offsets wait behind an open transaction at offset 10" in platform.last


def test_messages_that_wait_while_nothing_happens_are_told_once(platform: Platform) -> None:
    platform.log((0, 15, 15))
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["asx/raw_trades: ingestion stands still"]
    assert "T1/0[10,15)" in platform.last


def test_messages_that_a_run_carries_do_not_stand_still(platform: Platform) -> None:
    config = {"ops": {"asx__raw_trades": {"config": {"topic_id": "T1", "ranges": {"0": [[10, 15]]}}}}}
    create_run_for_test(
        platform.instance,
        ingest_job_name(platform.feeds[0].name, TRADES),
        run_config=config,
        status=dg.DagsterRunStatus.STARTED,
    )
    platform.log((0, 15, 15))
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.posts == []


def test_kafka_away_is_told_once_and_so_is_its_return(platform: Platform) -> None:
    platform.kafka.error = KafkaUnavailable("Kafka at 127.0.0.1:1: timed out. Is the broker up?")
    platform.sensor_ticked("asx_kafka_sensor", *[TickStatus.FAILURE] * 10)
    assert platform.webhook.titles == ["Kafka: does not answer"]
    platform.kafka.error = None
    platform.ticks(timedelta(minutes=10))

    assert platform.webhook.titles == ["Kafka: does not answer", "Kafka: answers again"]


def test_a_registry_and_a_catalog_that_are_away_are_told_once(platform: Platform) -> None:
    platform.registry.error = RegistryUnavailable("schema registry http://127.0.0.1:1: refused")
    platform.iceberg = IcebergCatalogResource(
        uri="postgresql+psycopg2://k2@127.0.0.1:1/k2", warehouse="file:///nowhere"
    )
    platform.ticks(timedelta(minutes=10))

    assert sorted(platform.webhook.titles) == ["Iceberg catalog: does not answer", "schema registry: does not answer"]


def test_doors_that_say_nothing_at_all_do_not_silence_the_sensor(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_alarms, "KAFKA_SECONDS", 0.05)
    platform.kafka.silent = threading.Event()
    try:
        platform.ticks(timedelta(minutes=5))
    finally:
        platform.kafka.silent.set()

    assert platform.webhook.titles == ["Kafka: does not answer"]
    assert "none within 0 s" in platform.last


def test_a_sensor_that_fails_three_times_in_a_row_is_told_once_with_its_error(platform: Platform) -> None:
    platform.sensor_ticked("asx_kafka_sensor", TickStatus.FAILURE, TickStatus.SKIPPED, *[TickStatus.FAILURE] * 2)
    assert platform.webhook.posts == []
    platform.sensor_ticked("asx_kafka_sensor", *[TickStatus.FAILURE] * 5)

    assert platform.webhook.titles == ["asx_kafka_sensor: sensor keeps failing"]
    assert "The last 3 ticks failed: ValueError: unforeseen." in platform.last

    platform.sensor_ticked("asx_kafka_sensor", TickStatus.SKIPPED, *[TickStatus.FAILURE] * 3)
    assert len(platform.webhook.titles) == 2


def test_a_tick_that_still_runs_hides_no_failed_ones(platform: Platform) -> None:
    platform.sensor_ticked("run_watch_sensor", *[TickStatus.FAILURE] * 3, TickStatus.STARTED)

    assert platform.webhook.titles == ["run_watch_sensor: sensor keeps failing"]


def test_a_webhook_that_fails_fails_the_tick_and_the_next_one_sends(platform: Platform) -> None:
    platform.log((0, 4, 4))
    platform.tick()
    platform.webhook.answers = [404]
    before = platform.cursor
    with pytest.raises(AlertNotSent):
        platform.tick()
    assert platform.cursor == before
    platform.ticks(timedelta(minutes=5))

    assert platform.webhook.titles == ["asx/raw_trades: log truncated"]


def test_alerts_taken_before_a_failure_are_not_sent_again(platform: Platform) -> None:
    platform.log((14, 14, 14), topic_id="T2")
    platform.webhook.answers = [200, 404]
    platform.tick()
    platform.ticks(timedelta(minutes=5))

    assert sorted(platform.webhook.titles) == [
        "asx/raw_trades: offsets lost to retention",
        "asx/raw_trades: topic recreated",
    ]


def test_an_alert_that_is_refused_keeps_no_other_from_being_sent(platform: Platform) -> None:
    platform.log((14, 14, 14), topic_id="T2")
    platform.webhook.answers = [400, 200, 400, 400]
    platform.tick()
    assert len(platform.webhook.taken) == 1
    for _ in range(2):
        with pytest.raises(AlertNotSent):
            platform.tick()
    platform.ticks(timedelta(minutes=4))

    assert len(platform.webhook.titles) == len(set(platform.webhook.titles)) == 2


def test_a_webhook_that_is_away_for_long_loses_nothing_of_the_old_topic(platform: Platform) -> None:
    platform.log((0, 13, 13))
    platform.tick()
    platform.log((0, 0, 0), topic_id="T2")
    platform.webhook.answers = [404] * 20
    while platform.webhook.answers:
        with suppress(AlertNotSent):
            platform.tick()
    platform.tick()

    assert platform.webhook.titles == ["asx/raw_trades: topic recreated"]
    assert "T1/0[10,13)" in platform.last


def test_a_cursor_that_cannot_be_read_tells_anew_and_does_not_stop_the_sensor(platform: Platform) -> None:
    platform.log((0, 4, 4))
    platform.ticks(timedelta(minutes=1))
    platform.cursor = "{"
    platform.ticks(timedelta(minutes=5))

    assert platform.webhook.titles == ["asx/raw_trades: log truncated"] * 2


def test_the_sensor_is_among_the_definitions_and_watches_sensors_that_are() -> None:
    sensors = {sensor.name: sensor for sensor in build_defs().sensors or ()}

    assert sensors["ingest_alarm_sensor"].default_status is dg.DefaultSensorStatus.RUNNING
    assert {"asx_kafka_sensor", "asx_stale_day_sensor", "run_watch_sensor"} <= sensors.keys()
