"""A second kind beside trades, over a real broker: its family is made by the very code that makes that of trades."""

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from confluent_kafka import Producer
from dagster._core.event_api import PartitionKeyFilter
from own_feeds import OwnFeed, own_feed, wait_until_known
from pyiceberg.catalog import Catalog
from toy_kind import DAY, MARK, MARKS, OPEN, marks

from k2_assets.checks import check_keys
from k2_assets.names import ingest_job_name
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.shipped import tables_of
from k2_market.kinds.trades import TRADES
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.row_offsets import offsets_of
from k2_market.schemas.avro import subject_of
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_platform.definitions import build_defs, clients
from k2_platform.repairing import Repairs
from k2_resources.exporter.kafka_facts import KafkaFacts
from k2_resources.exporter.table_facts import TableFacts
from k2_resources.iceberg.catalog import find_table, open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.maintenance.feed_maintenance import FeedMaintenance
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import METRICS
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.proofs.log_reading import LogReading
from k2_resources.proofs.retained_messages import RetainedMessages
from k2_resources.query.views import open_query_connection
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors.ingest_alarms import FeedKind, IngestClients, look
from k2_sensors.unchecked_day_sensor import next_check

NOT_A_MARK = b"\x00\x00"
VALUES = ["1.250", "-0.005", "99999999.999", "0"]
MORE = ["2.5", "3"]


@dataclass(frozen=True)
class Marked:
    """A feed that has trades and marks, both ingested."""

    own: OwnFeed
    caught_up: tuple[CaughtUp, ...]

    @property
    def feed(self) -> Feed:
        return self.own.feed

    @property
    def settings(self) -> Settings:
        return self.own.settings

    @property
    def catalog(self) -> Catalog:
        return open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse)

    def ledger(self, kind: RawKind) -> Ledger:
        return RawTable(self.catalog, self.feed.name, kind).ledger()

    def readable(self, kind: RawKind) -> Any:
        state = KafkaTopics(self.settings.bootstrap_servers).state(kind.topic(self.feed))
        assert state is not None
        return state.readable

    def evaluations(self) -> dict[str, dg.AssetCheckEvaluation]:
        """The latest evaluation of each of the marks' checks on the day."""
        keys = check_keys(self.feed.name, [MARKS])
        with local_instance(self.settings) as instance:
            latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
                keys, PartitionKeyFilter(key=DAY.isoformat())
            )
        events = {key.name: record.event.dagster_event for key, record in latest.items() if record.event}
        return {name: event.asset_check_evaluation_data for name, event in events.items() if event is not None}


def send(own: OwnFeed, values: list[bytes], first: int) -> None:
    producer = Producer({"bootstrap.servers": own.settings.bootstrap_servers})
    for number, value in enumerate(values, start=first):
        at = int(OPEN.timestamp() * 1000) + number * 1000
        producer.produce(MARKS.topic(own.feed), value, b"BHP", timestamp=at)
    assert producer.flush(60) == 0


def catch_up(own: OwnFeed, kind: RawKind) -> CaughtUp:
    with local_instance(own.settings) as instance:
        return catch_up_feed(own.settings, own.feed, kind, instance, lambda: datetime.now(UTC))


def look_by_sensor(own: OwnFeed, instance: dg.DagsterInstance) -> Any:
    """What the Kafka sensor of the marks, as Dagster has it, makes of a look."""
    defs = build_defs(settings=own.settings, feeds={own.feed.name: own.feed}, kinds=(TRADES, MARKS))
    sensor = defs.get_repository_def().get_sensor_def(f"{own.feed.name}__marks_kafka_sensor")
    with dg.build_sensor_context(instance=instance, resources=clients(own.settings)) as context:
        return sensor(context)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory, kafka: Any, registry: Any) -> Marked:
    """Marks that came in two parts, a message that is none among them; trades beside."""
    own = own_feed(tmp_path_factory.mktemp("marked"), kafka.bootstrap_servers, registry.url, partitions=1)
    with local_instance(own.settings) as instance:
        created = look_by_sensor(own, instance)
        assert isinstance(created, dg.SkipReason)
        assert str(created.skip_message).endswith("was created")
    wait_until_known(kafka.bootstrap_servers, MARKS.topic(own.feed))
    schema_id = SchemaRegistry(registry.url).register(subject_of(MARKS.topic(own.feed)), MARK)
    send(own, [*marks(own.feed, schema_id, VALUES), NOT_A_MARK], 0)
    with local_instance(own.settings) as instance:
        asked = look_by_sensor(own, instance)
        assert isinstance(asked, dg.RunRequest)
        assert asked.partition_key == DAY.isoformat()
    own.producer().send(own.trades(50))
    first = catch_up(own, MARKS)
    trades = catch_up(own, TRADES)
    send(own, marks(own.feed, schema_id, MORE, 100), 100)
    return Marked(own, (first, trades, catch_up(own, MARKS), catch_up(own, MARKS)))


def test_each_message_of_a_second_kind_is_ingested_exactly_once(marked: Marked) -> None:
    assert [each.ingest_runs for each in marked.caught_up] == [1, 1, 1, 0]
    assert all(each.complete for each in marked.caught_up)
    rows = RawTable(marked.catalog, marked.feed.name, MARKS).view().read_day(DAY)
    assert rows.schema.names == MARKS.messages.rows.names
    assert rows.num_rows == len([*VALUES, NOT_A_MARK, *MORE])
    assert offsets_of(rows) == marked.ledger(MARKS).settled == marked.readable(MARKS)
    assert sorted(value for value in rows["value"].to_pylist() if value is not None) == sorted(
        map(Decimal, [*VALUES, *MORE])
    )


def test_the_kinds_of_a_feed_share_no_ledger(marked: Marked) -> None:
    assert marked.ledger(TRADES).settled == marked.readable(TRADES)
    assert marked.ledger(TRADES).settled.isdisjoint(marked.ledger(MARKS).settled)


def test_a_run_by_hand_finds_nothing_of_a_second_kind_to_add(marked: Marked) -> None:
    before = marked.ledger(MARKS)
    defs = build_defs(settings=marked.settings, feeds={marked.feed.name: marked.feed}, kinds=(TRADES, MARKS))
    job = defs.resolve_job_def(ingest_job_name(marked.feed.name, MARKS))
    with local_instance(marked.settings) as instance:
        assert job.execute_in_process(instance=instance, partition_key=DAY.isoformat()).success
    assert marked.ledger(MARKS).settled == before.settled
    assert marked.ledger(MARKS).messages == before.messages


def test_a_second_kind_is_checked_by_its_own_rules_and_by_those_of_the_ledger(marked: Marked) -> None:
    found = marked.evaluations()
    assert {name: each.passed for name, each in found.items()} == {
        "ledger_verified": True,
        "offsets_reconcile": True,
        "dead_letters": False,
        "values_not_negative": False,
    }
    assert found["values_not_negative"].metadata["below"].value == 1
    assert {each.asset_key for each in found.values()} == {dg.AssetKey([marked.feed.name, "raw_marks"])}


def test_a_second_kind_is_asked_for_by_sql(marked: Marked, tmp_path: Path) -> None:
    schemas = tables_of([TRADES, MARKS])
    with open_query_connection(marked.catalog, [marked.feed.name], schemas, spill_directory=tmp_path) as connection:
        statement = f"SELECT count(value), sum(value) FROM {marked.feed.name}.raw_marks"
        assert connection.execute(statement).fetchall() == [(6, sum(map(Decimal, [*VALUES, *MORE])))]
        everywhere = connection.execute("SELECT DISTINCT feed FROM all_feeds.raw_marks").fetchall()
        assert everywhere == [(marked.feed.name,)]


def test_the_proof_of_the_ledger_reads_a_second_kind_and_its_messages(marked: Marked) -> None:
    table = find_table(marked.catalog, marked.feed.name, "raw_marks")
    assert table is not None
    with closing(RetainedMessages(marked.settings.bootstrap_servers, MARKS.topic(marked.feed))) as messages:
        registry = SchemaRegistry(marked.settings.schema_registry_url)
        reading = LogReading(marked.feed, MARKS, messages, registry, None, lambda done, total: None)
        found = prove_ledger(table, MARKS, reading)
    assert found.holds, found.violations
    assert reading.comparison.compared == 7


def test_the_exporter_speaks_of_a_second_kinds_topic_and_tables(marked: Marked) -> None:
    figures = Figures()
    kinds = [TRADES, MARKS]
    KafkaFacts(marked.settings.bootstrap_servers, lambda: marked.catalog, [marked.feed], kinds).report(figures)
    TableFacts(lambda: marked.catalog, [marked.feed], kinds).report(figures)
    of_table = {
        "exchange": marked.feed.exchange,
        "asset_class": str(marked.feed.asset_class),
        "feed": marked.feed.name,
        "table": "raw_marks",
    }

    def value(name: str, **labels: str) -> float | None:
        return figures.gauges().get((name, METRICS[name].label_values({**of_table, **labels})))

    assert value("k2_ingest_lag_messages", partition="0") == 0
    assert value("k2_topic_high_watermark", partition="0") == 7
    assert value("k2_table_rows") == 7
    assert value("k2_ledger_unaccounted_rows") == 0


def test_the_alarm_sensor_looks_at_a_second_kind_and_no_check_of_it_is_left(marked: Marked) -> None:
    made, now = clients(marked.settings), datetime.now(UTC)
    watched = [FeedKind(marked.feed, kind) for kind in (TRADES, MARKS)]
    with local_instance(marked.settings) as instance:
        asked = look(watched, made["kafka"], made["iceberg"], made["registry"], instance, now, IngestClients())
        left = next_check(marked.feed, MARKS, instance, now)
    assert [each.table for each in asked.feeds] == [
        f"{marked.feed.name}/{name}" for name in ("raw_trades", "raw_marks")
    ]
    assert [each.ledger for each in asked.feeds] == [marked.ledger(TRADES), marked.ledger(MARKS)]
    assert all(each.is_fine for each in asked.feeds)
    assert isinstance(left, dg.SkipReason)


def test_repair_and_maintenance_work_on_a_second_kind(marked: Marked) -> None:
    repairs = Repairs(marked.settings, marked.feed, MARKS, dry_run=True)
    assert not repairs.day(DAY).changes
    ((day, revival),) = list(repairs.dead_letters(None))
    assert day == DAY
    assert not revival.changes
    before = RawTable(marked.catalog, marked.feed.name, MARKS).view().rows
    done = FeedMaintenance(marked.catalog, marked.feed, MARKS, lambda: datetime.now(UTC)).carry_out(DAY)
    assert set(done.swept) == {"raw_marks"}
    assert RawTable(marked.catalog, marked.feed.name, MARKS).view().rows == before
