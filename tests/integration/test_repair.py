"""``k2 repair`` on real tables, with a real broker: what was spoilt by hand is as if it had never been."""

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import fastavro
import pyarrow as pa
import pytest
from click.testing import Result
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from repository import SHIPPED_FEEDS
from typer.testing import CliRunner

from k2_cli.main import app
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_market.messages.block_decoder import DayWindow, decode, schema_ids
from k2_market.messages.framing import frame
from k2_market.quality.ledger_checks import OFFSETS_RECONCILE
from k2_market.schemas.avro import TRADE, subject_of
from k2_market.schemas.message_kinds import TRADE_MESSAGES
from k2_market.schemas.tables import BAR_INTERVALS
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_platform.producing import produce_simulated_day
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.snapshot_summary import BATCH_ID, DAYS, MESSAGES, RANGES, RUN_ID
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.raw.view import RawView
from k2_resources.settings import Settings
from k2_sensors.stale_day_sensor import next_build

DAY, DAY_BEFORE = date(2026, 11, 20), date(2026, 11, 19)
AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
TRADES = 2_000
TABLES = ("trades", *(interval.table for interval in BAR_INTERVALS))
SHIPPED = SHIPPED_FEEDS / "sim.toml"


@pytest.fixture(scope="module")
def feeds_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feeds")


@pytest.fixture
def feed(feeds_directory: Path, kafka: Any) -> Feed:
    """A feed of the test's own, with a topic of two partitions."""
    name = f"mended{uuid.uuid4().hex[:8]}"
    text = SHIPPED.read_text(encoding="utf-8").replace('name = "sim"', f'name = "{name}"')
    text = text.replace(".trades.sim", f".trades.{name}").replace("[topics]", "[topics]\npartitions = 2")
    (feeds_directory / f"{name}.toml").write_text(text, encoding="utf-8")
    declared = load_feeds([feeds_directory])[name]
    ensure_topic(kafka.bootstrap_servers, declared.topics.trades, declared.topics)
    return declared


@pytest.fixture
def new_home(tmp_path: Path, feeds_directory: Path, kafka: Any, registry: Any) -> Callable[[str], Settings]:
    """Settings with a home of the name given."""
    return lambda name: Settings(
        home=tmp_path / name,
        feeds_dir=feeds_directory,
        kafka_bootstrap=kafka.bootstrap_servers,
        registry_url=registry.url,
    )


@pytest.fixture
def settings(new_home: Callable[[str], Settings]) -> Settings:
    return new_home("spoilt")


def simulated(settings: Settings, feed: Feed) -> None:
    produce_simulated_day(settings, feed, DAY, TRADES, 1, 10, [], datetime.now(UTC))


def catch_up(settings: Settings, feed: Feed) -> CaughtUp:
    with local_instance(settings) as instance:
        return catch_up_feed(settings, feed, TRADES_KIND, instance, lambda: datetime.now(UTC) + timedelta(minutes=5))


def repair(settings: Settings, feed: Feed, *options: str) -> Result:
    environment = {key: value for key, value in settings.environment_variables().items() if value}
    return CliRunner().invoke(app, ["repair", "--feed", feed.name, *options], env=environment)


def repaired(settings: Settings, feed: Feed, *options: str) -> dict[str, Any]:
    """What ``k2 repair`` says it did, as a program reads it."""
    result = repair(settings, feed, *options, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def told(answer: dict[str, Any], kind: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in answer[kind]:
        counts[each["what"]] = counts.get(each["what"], 0) + each["rows"]
    return counts


def raw_table(settings: Settings, feed: Feed) -> RawTable:
    return RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, TRADES_KIND)


def loaded(settings: Settings, feed: Feed) -> Any:
    return open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse).load_table((feed.name, "raw_trades"))


def raw_rows(view: RawView, day: date = DAY) -> list[dict[str, Any]]:
    rows = view.read_day(day)
    return rows.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")]).to_pylist()


def raw_content(settings: Settings, feed: Feed) -> list[object]:
    view = raw_table(settings, feed).view()
    ledger = view.ledger
    return [
        raw_rows(view),
        raw_rows(view, DAY_BEFORE),
        (view.rows, ledger.messages, ledger.covered, ledger.dead_letters),
    ]


def built_content(settings: Settings, feed: Feed) -> Iterator[object]:
    """Everything that can be asked of a feed: raw rows, what the ledger says, trades and bars."""
    yield raw_content(settings, feed)
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    for table in TABLES:
        for day in (DAY_BEFORE, DAY):
            yield DayTable(catalog, feed.name, table).read_day(day).to_pylist()


def assert_built_as_undisturbed(settings: Settings, feed: Feed, undisturbed: Settings) -> None:
    assert catch_up(undisturbed, feed).failed == 0
    assert list(built_content(settings, feed)) == list(built_content(undisturbed, feed))


def assert_raw_as_undisturbed(settings: Settings, feed: Feed, undisturbed: Settings) -> None:
    ingest(undisturbed, feed)
    assert raw_content(settings, feed) == raw_content(undisturbed, feed)


@pytest.mark.slow
def test_rows_deleted_by_hand_come_back_and_trades_and_bars_with_them(settings: Settings, feed: Feed) -> None:
    simulated(settings, feed)
    catch_up(settings, feed)
    before = list(built_content(settings, feed))
    loaded(settings, feed).delete("kafka_partition = 1 AND kafka_offset >= 100 AND kafka_offset < 160")

    dry = repaired(settings, feed, "--date", str(DAY), "--dry-run")
    assert told(dry, "changes") == {"added": 60}
    assert [each.split("/")[1] for each in dry["changes"][0]["offsets"]] == ["1[100,160)"]
    assert (dry["rows_before"], dry["rows_after"], dry["repaired"]) == (TRADES - 60, TRADES, False)
    assert raw_table(settings, feed).view().rows == TRADES - 60

    assert repaired(settings, feed, "--date", str(DAY))["repaired"]
    assert catch_up(settings, feed).build_runs == 1
    assert list(built_content(settings, feed)) == before


def test_the_repairs_snapshots_say_whose_they_are_and_the_ledger_names_them(settings: Settings, feed: Feed) -> None:
    simulated(settings, feed)
    ingest(settings, feed)
    ledger = raw_table(settings, feed).ledger()
    loaded(settings, feed).delete("kafka_partition = 0 AND kafka_offset < 10")
    repaired(settings, feed, "--date", str(DAY))
    deleted, appended = loaded(settings, feed).metadata.snapshots[-2:]
    after = raw_table(settings, feed).ledger()
    assert after == ledger.repaired(after.batch_id, 0)
    assert after.batch_id != ledger.batch_id
    for snapshot in (deleted, appended):
        said = snapshot.summary.additional_properties
        assert (said[BATCH_ID], said[DAYS]) == (after.batch_id, str(DAY))
        assert said[RUN_ID].startswith("repair-")
        assert not {RANGES, MESSAGES} & said.keys()


def test_where_nothing_is_wrong_a_repair_commits_nothing(settings: Settings, feed: Feed) -> None:
    simulated(settings, feed)
    ingest(settings, feed)
    before = loaded(settings, feed).metadata_location
    result = repair(settings, feed, "--date", str(DAY))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "Nothing to repair.")
    assert repair(settings, feed, "--date", str(DAY_BEFORE)).stdout.splitlines()[-1] == "Nothing to repair."
    assert repair(settings, feed, "--dead-letters").stdout == "Nothing to repair.\n"
    assert "was not rolled back" in repair(settings, feed, "--roll-forward").stdout
    assert loaded(settings, feed).metadata_location == before


def test_a_day_that_its_check_has_blocked_may_be_built_after_the_repair(settings: Settings, feed: Feed) -> None:
    number = registered(settings, feed)
    produce(settings, feed, [frame(number, body(trade(n))) for n in range(30)])
    ingest(settings, feed)
    loaded(settings, feed).delete("kafka_offset < 5")
    produce(settings, feed, [frame(number, body(trade(n))) for n in range(30, 40)])
    assert catch_up(settings, feed).build_runs == 0  # the check of the run found rows missing
    assert told(repaired(settings, feed, "--date", str(DAY)), "changes") == {"added": 10}
    with local_instance(settings) as instance:
        tables = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
        request = next_build(feed, TRADES_KIND, tables, instance, datetime.now(UTC))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == str(DAY)


def test_rows_doubled_planted_and_changed_by_hand_are_put_right(
    settings: Settings, feed: Feed, new_home: Callable[[str], Settings]
) -> None:
    simulated(settings, feed)
    ingest(settings, feed)
    rows = raw_table(settings, feed).view().read_day(DAY)
    table = loaded(settings, feed)
    place = rows.schema.get_field_index("kafka_offset")
    table.append(rows.slice(0, 5))
    table.append(rows.slice(5, 3).set_column(place, rows.schema.field(place), pa.array([900_000, 900_001, 900_002])))
    first = "kafka_partition = 0 AND kafka_offset < 4"
    changed = table.refresh().scan(row_filter=first).to_arrow().select(rows.schema.names).cast(rows.schema)
    place = rows.schema.get_field_index("price")
    prices = pa.array([Decimal(1)] * changed.num_rows, rows.schema.field(place).type)
    table.overwrite(changed.set_column(place, rows.schema.field(place), prices), overwrite_filter=first)

    answer = repaired(settings, feed, "--date", str(DAY))
    assert told(answer, "changes") == {"replaced": 4, "repeated": 5, "stray": 3}
    assert_raw_as_undisturbed(settings, feed, new_home("undisturbed"))


def test_what_kafka_retains_no_more_stays_and_what_is_gone_is_named(settings: Settings, feed: Feed) -> None:
    number = registered(settings, feed)
    produce(settings, feed, [frame(number, body(trade(n))) for n in range(100)], partition=0)
    ingest(settings, feed)
    loaded(settings, feed).delete("kafka_offset < 10 OR (kafka_offset >= 50 AND kafka_offset < 53)")
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(feed.topics.trades, 0, 20)]).values():
        future.result(30)
    answer = repaired(settings, feed, "--date", str(DAY))
    assert told(answer, "changes") == {"added": 3}
    assert told(answer, "untouched") == {"not_retained": 10, "gone": 10}
    assert [row["kafka_offset"] for row in raw_rows(raw_table(settings, feed).view())] == list(range(10, 100))


def test_rows_of_a_topic_that_was_made_anew_stay(settings: Settings, feed: Feed) -> None:
    number = registered(settings, feed)
    produce(settings, feed, [frame(number, body(trade(n))) for n in range(20)])
    ingest(settings, feed)
    before = raw_rows(raw_table(settings, feed).view())
    make_anew(settings, feed)
    produce(settings, feed, [frame(number, body(trade(n, price="99"))) for n in range(40)])
    answer = repaired(settings, feed, "--date", str(DAY))
    assert (told(answer, "changes"), told(answer, "untouched")) == ({}, {"not_retained": 20})
    assert raw_rows(raw_table(settings, feed).view()) == before


def test_missing_rows_of_another_day_are_told_and_come_back_by_its_own_repair(
    settings: Settings, feed: Feed, new_home: Callable[[str], Settings]
) -> None:
    number = registered(settings, feed)
    days = [DAY_BEFORE if n % 5 == 0 else DAY for n in range(50)]
    produce(settings, feed, [frame(number, body(trade(n, day))) for n, day in enumerate(days)])
    ingest(settings, feed)
    loaded(settings, feed).delete("kafka_offset < 12")
    answer = repaired(settings, feed, "--date", str(DAY))
    missing = [each for each in answer["untouched"] if each["what"] == "missing_elsewhere"]
    assert [each["day"] for each in missing] == [str(DAY_BEFORE)]
    assert f"of {DAY_BEFORE}: missing too" in repair(settings, feed, "--date", str(DAY)).stdout
    other = repaired(settings, feed, "--date", str(DAY_BEFORE))
    assert told(other, "changes")["added"] == missing[0]["rows"]
    assert_raw_as_undisturbed(settings, feed, new_home("undisturbed"))


def test_dead_letters_that_decode_after_a_schema_was_mended_go_to_their_days(
    settings: Settings, feed: Feed, new_home: Callable[[str], Settings]
) -> None:
    number = registered(settings, feed)
    good = [frame(number, body(trade(n, DAY_BEFORE if n % 4 == 0 else DAY))) for n in range(40)]
    produce(settings, feed, [*good, b"{not avro", None])
    ingest(settings, feed, schemas_known=False)
    assert raw_table(settings, feed).ledger().dead_letters == 42

    dry = repaired(settings, feed, "--dead-letters", "--dry-run")
    assert dry["days"][0]["decoded"] == {str(DAY_BEFORE): 10, str(DAY): 30}
    assert raw_table(settings, feed).ledger().dead_letters == 42

    commits = len(loaded(settings, feed).metadata.snapshots)
    assert repaired(settings, feed, "--dead-letters")["days"] == dry["days"]
    assert len(loaded(settings, feed).metadata.snapshots) == commits + 2
    assert raw_table(settings, feed).ledger().dead_letters == 2
    assert repair(settings, feed, "--dead-letters").stdout.splitlines()[-1] == "Nothing to repair."
    assert len(loaded(settings, feed).metadata.snapshots) == commits + 2
    assert_raw_as_undisturbed(settings, feed, new_home("undisturbed"))


def test_days_that_were_repaired_are_reported_and_checked(settings: Settings, feed: Feed) -> None:
    number = registered(settings, feed)
    produce(settings, feed, [frame(number, body(trade(n, DAY_BEFORE if n % 4 == 0 else DAY))) for n in range(8)])
    ingest(settings, feed, schemas_known=False)
    asset = dg.AssetKey([feed.name, "raw_trades"])
    with local_instance(settings) as instance:
        repaired(settings, feed, "--dead-letters", "--date", str(DAY))
        assert instance.get_materialized_partitions(asset) == {str(DAY_BEFORE), str(DAY)}
        results = instance.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(asset, OFFSETS_RECONCILE)]
        )
        assert {each.partition_key for each in results} == {str(DAY_BEFORE), str(DAY)}
        events = len(instance.fetch_materializations(asset, limit=10).records)
        repaired(settings, feed, "--dead-letters")
        assert len(instance.fetch_materializations(asset, limit=10).records) == events


def test_a_days_repair_leaves_dead_letters_of_other_days_to_theirs(settings: Settings, feed: Feed) -> None:
    number = registered(settings, feed)
    produce(settings, feed, [frame(number, body(trade(n, DAY_BEFORE if n < 3 else DAY))) for n in range(10)])
    ingest(settings, feed, schemas_known=False)
    answer = repaired(settings, feed, "--date", str(DAY))
    assert (told(answer, "changes"), told(answer, "untouched")) == ({"decoded": 7}, {"leaving": 3})
    assert raw_table(settings, feed).ledger().dead_letters == 3


@pytest.mark.slow
@pytest.mark.parametrize("point", ["parquet_written", "before_cas"])
def test_a_repair_killed_before_its_commit_has_changed_nothing_and_the_next_does_it(
    point: str, settings: Settings, feed: Feed, new_home: Callable[[str], Settings]
) -> None:
    simulated(settings, feed)
    ingest(settings, feed)
    loaded(settings, feed).delete("kafka_partition = 1 AND kafka_offset < 160")
    before = loaded(settings, feed).metadata_location
    repair_killed_at(point, settings, feed)
    assert loaded(settings, feed).metadata_location == before
    assert told(repaired(settings, feed, "--date", str(DAY)), "changes") == {"added": 160}
    assert_raw_as_undisturbed(settings, feed, new_home("undisturbed"))


@pytest.mark.slow
def test_a_repair_killed_after_its_commit_is_done_and_the_sensor_has_its_day_built(
    settings: Settings, feed: Feed, new_home: Callable[[str], Settings]
) -> None:
    simulated(settings, feed)
    catch_up(settings, feed)
    loaded(settings, feed).delete("kafka_partition = 1 AND kafka_offset < 160")
    repair_killed_at("after_cas", settings, feed)
    done = catch_up(settings, feed)
    assert (done.ingest_runs, done.build_runs, done.failed) == (0, 1, 0)
    assert_built_as_undisturbed(settings, feed, new_home("undisturbed"))
    assert told(repaired(settings, feed, "--date", str(DAY)), "changes") == {}


def repair_killed_at(point: str, settings: Settings, feed: Feed) -> None:
    command = [sys.executable, "-c", "from k2_cli.main import app; app()", "repair", "--feed", feed.name]
    environment = {**os.environ, **settings.environment_variables(), "K2_CRASH_AT": point}
    killed = subprocess.run([*command, "--date", str(DAY)], env=environment, timeout=120, check=False)
    assert killed.returncode == -9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say what to repair"),
        (["--dry-run"], "say what to repair"),
        (["--roll-forward", "--dead-letters"], "--roll-forward goes alone"),
        (["--roll-forward", "--date", "2026-11-20"], "--roll-forward goes alone"),
    ],
)
def test_a_repair_that_is_not_told_what_or_too_much_says_so(options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["repair", "--feed", "sim", *options])
    assert result.exit_code == 1
    assert said in result.stderr


def trade(number: int, day: date = DAY, **said: Any) -> dict[str, Any]:
    at = datetime(day.year, day.month, day.day, 15, 0, tzinfo=UTC)
    price = Decimal(said.get("price", "10.5"))
    return {
        "message_id": f"m{number}",
        "trade_id": f"t{number}",
        "symbol": f"SIM{number % 7:02}",
        "exchange": "SIM",
        "asset_class": "equities",
        "exchange_timestamp": int(at.timestamp() * 1_000_000) + number,
        "trade_date": day,
        "price": price.quantize(Decimal("1E-10")),
        "quantity": Decimal(100).quantize(Decimal("1E-8")),
        "currency": "USD",
        "side": "BUY",
        "conditions": [],
        "action": "NEW",
        "corrects_trade_id": None,
        "sequence_number": number + 1,
        "received_timestamp": at,
        "attributes": {"b": "2", "a": "1"},
    }


def body(record: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(TRADE), record)
    return written.getvalue()


def registered(settings: Settings, feed: Feed) -> int:
    registry = SchemaRegistry(settings.schema_registry_url)
    return registry.register(subject_of(feed.topics.trades), TRADE)


def produce(settings: Settings, feed: Feed, values: list[bytes | None], **where: int) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for number, value in enumerate(values):
        key = f"SIM{number % 7:02}".encode()
        producer.produce(
            feed.topics.trades,
            key=key,
            value=value,
            timestamp=int(AT.timestamp() * 1000) + number,
            headers={"correlation_id": b"by-hand"},
            **where,
        )
    assert producer.flush(30) == 0


def ingest(settings: Settings, feed: Feed, *, schemas_known: bool = True) -> None:
    """Ingest what is pending; as if the registry knew no schema, every message becomes a dead letter."""
    topic = KafkaTopics(settings.bootstrap_servers).state(feed.topics.trades)
    assert topic is not None
    registry, table = SchemaRegistry(settings.schema_registry_url), raw_table(settings, feed)
    window = DayWindow.of(feed, datetime.now(UTC))
    pending = topic.readable - table.ledger().covered
    for read in TopicReader(settings.bootstrap_servers, topic.name, "test").read(pending):
        schemas = registry.writer_schemas(schema_ids(read.messages)) if schemas_known else {}
        rows = decode(read.messages, TRADE_MESSAGES, schemas, window)
        table.commit(Delivery(rows, read.covered, {topic.topic_id: topic.name}, "by-hand"))


def make_anew(settings: Settings, feed: Feed) -> None:
    """Delete the topic, and create it under a new id."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    topics = KafkaTopics(settings.bootstrap_servers)
    before = topics.state(feed.topics.trades)
    assert before is not None
    for future in admin.delete_topics([feed.topics.trades]).values():
        future.result(30)
    while topics.state(feed.topics.trades) is not None:
        admin.poll(0.1)
    ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
    while (after := topics.state(feed.topics.trades)) is None:
        admin.poll(0.1)
    assert after.topic_id != before.topic_id
