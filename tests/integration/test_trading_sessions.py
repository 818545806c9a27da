"""Trading days on their whole way, from files and producers over a real broker to bars and checks."""

import io
import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import fastavro
import pytest
from confluent_kafka import Producer
from dagster._core.event_api import PartitionKeyFilter
from typer.testing import CliRunner, Result

from k2_assets.ingestion import Ingestion
from k2_cli.main import app
from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES
from k2_market.messages.framing import frame
from k2_market.schemas.avro import TRADE, subject_of
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.query.views import open_query_connection
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

MakeFeed = Callable[..., Feed]


@pytest.fixture
def settings(stack_settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a directory of feed files of the test's own."""
    (tmp_path / "feeds").mkdir()
    return stack_settings.model_copy(update={"feeds_dir": tmp_path / "feeds"})


@pytest.fixture
def declare(settings: Settings) -> MakeFeed:
    """Write a feed's file and give the feed."""
    assert settings.feeds_dir is not None
    directory = settings.feeds_dir

    def write(name: str, calendar: str, timezone: str, start_date: str, more: str = "") -> Feed:
        text = f"""
name = "{name}"
exchange = "{name.upper()}"
asset_class = "futures"
timezone = "{timezone}"
calendar = "{calendar}"
start_date = {start_date}
currency = "USD"
[topics]
trades = "market.futures.trades.{name}-{uuid.uuid4().hex[:8]}"
partitions = 2
{more}
"""
        (directory / f"{name}.toml").write_text(text, encoding="utf-8")
        return load_feeds([directory])[name]

    return write


def k2(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env=settings.environment_variables())


def load(settings: Settings, feed: Feed, directory: Path, *lines: str) -> None:
    path = directory / f"{feed.name}.csv"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    loaded = k2(settings, "load", "--feed", feed.name, str(path))
    assert loaded.exit_code == 0, loaded.output


def catch_up(settings: Settings, feed: Feed) -> CaughtUp:
    with local_instance(settings) as instance:
        return catch_up_feed(settings, feed, TRADES, instance, lambda: datetime.now(UTC))


def asked(settings: Settings, feed: Feed, statement: str) -> list[tuple[Any, ...]]:
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    connection: duckdb.DuckDBPyConnection
    with open_query_connection(
        catalog, [feed.name], tables_of(KINDS), spill_directory=settings.home / "spill"
    ) as connection:
        return connection.execute(statement).fetchall()


DAILY = "SELECT trade_date, symbol, open, high, low, close, volume FROM {}.ohlcv_1d ORDER BY 1, 2"


def daily(settings: Settings, feed: Feed) -> dict[str, tuple[int, ...]]:
    """Open, high, low, close and volume of each trading day of a feed of one symbol."""
    return {str(day): tuple(map(int, bar)) for day, _, *bar in asked(settings, feed, DAILY.format(feed.name))}


def evaluation(settings: Settings, feed: Feed, table: str, check: str, day: date) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey([feed.name, table]), check)
    with local_instance(settings) as instance:
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [key], partition_filter=PartitionKeyFilter(key=day.isoformat())
        )
    event = records[key].event
    assert event is not None
    assert event.dagster_event is not None
    return event.dagster_event.asset_check_evaluation_data


def test_trades_of_the_next_session_are_rows_and_bars_while_it_is_on(
    settings: Settings, declare: MakeFeed, tmp_path: Path
) -> None:
    ose = declare("ose", "XTKS", "Asia/Tokyo", "2026-11-01")  # a calendar that knows no night session
    now = datetime.now(UTC)
    today = TradingCalendar.of(ose).trading_day_of(now)
    tomorrow = TradingCalendar.of(ose).next_trading_day(today)
    times = [(now - timedelta(minutes=minutes)).isoformat() for minutes in (30, 20, 10)]
    load(
        settings,
        ose,
        tmp_path,
        "symbol,exchange_timestamp,price,quantity,trade_id,trade_date",
        f"NK225 2612,{times[0]},49900,3,on0,{today}",
        f"NK225 2612,{times[1]},50000,1,on1,{tomorrow}",
        f"NK225 2612,{times[2]},50100,2,on2,{tomorrow}",
    )
    done = catch_up(settings, ose)
    assert (done.failed, done.waiting) == (0, f"nothing pending in {ose.topics.trades}")
    assert asked(settings, ose, "SELECT count(*), count(reject_reason) FROM ose.raw_trades") == [(3, 0)]
    assert daily(settings, ose) == {
        str(today): (49900, 49900, 49900, 49900, 3),
        str(tomorrow): (50000, 50100, 50000, 50100, 3),
    }
    assert evaluation(settings, ose, "raw_trades", "offsets_reconcile", tomorrow).passed


def test_futures_without_a_trading_day_in_their_file_have_the_calendar_s(
    settings: Settings, declare: MakeFeed, tmp_path: Path
) -> None:
    cme = declare("cme", "CMES", "America/Chicago", "2013-10-01")
    load(
        settings,
        cme,
        tmp_path,
        "symbol,exchange_timestamp,price,quantity,trade_id",
        "ESZ6,2026-11-15T17:05:00-06:00,6700,1,e0",
        "ESZ6,2026-11-15T23:30:00-06:00,6701,2,e1",
        "ESZ6,2026-11-16T09:00:00-06:00,6710,3,e2",
        "ESZ6,2026-11-16T15:59:00-06:00,6705,4,e3",
        "ESZ6,2026-11-16T17:05:00-06:00,6720,5,e4",
    )
    assert catch_up(settings, cme).failed == 0
    assert daily(settings, cme) == {
        "2026-11-16": (6700, 6710, 6700, 6705, 10),
        "2026-11-17": (6720, 6720, 6720, 6720, 5),
    }
    bounds = asked(settings, cme, "SELECT bar_start, bar_end FROM cme.ohlcv_1d ORDER BY 1 LIMIT 1")
    assert [bound.astimezone(UTC).isoformat() for bound in bounds[0]] == [
        "2026-11-15T23:00:00+00:00",
        "2026-11-16T23:00:00+00:00",
    ]
    hours = asked(settings, cme, "SELECT DISTINCT extract(minute FROM bar_start) FROM cme.ohlcv_1h")
    assert hours == [(0,)]
    for day in (date(2026, 11, 16), date(2026, 11, 17)):
        assert evaluation(settings, cme, "trades", "inside_session", day).passed
        proof = k2(settings, "verify", "bars", "--feed", "cme", "--date", str(day))
        assert proof.exit_code == 0, proof.output


def test_bars_of_a_day_that_starts_at_a_quarter_to_stand_on_the_clock_and_are_proven(
    settings: Settings, declare: MakeFeed, tmp_path: Path
) -> None:
    own = declare("own", "24/7", "Asia/Tokyo", "2026-11-01", '[session]\nday_starts = "16:45"')
    load(
        settings,
        own,
        tmp_path,
        "symbol,exchange_timestamp,price,quantity,trade_id",
        "A,2026-11-19T16:44:59+09:00,10,1,a",
        "A,2026-11-19T16:45:00+09:00,11,1,b",
        "A,2026-11-19T17:10:00+09:00,12,1,c",
        "A,2026-11-20T16:44:59+09:00,13,1,d",
    )
    assert catch_up(settings, own).failed == 0
    assert daily(settings, own) == {"2026-11-19": (10, 10, 10, 10, 1), "2026-11-20": (11, 13, 11, 13, 3)}
    hours = asked(settings, own, "SELECT bar_start FROM own.ohlcv_1h WHERE trade_date = '2026-11-20' ORDER BY 1")
    assert [f"{start.astimezone(UTC):%d %H:%M}" for (start,) in hours] == ["19 07:00", "19 08:00", "20 07:00"]
    proof = k2(settings, "verify", "bars", "--feed", "own", "--date", "2026-11-20")
    assert proof.exit_code == 0, proof.output


def test_a_trade_in_the_lunch_break_is_told_by_the_check_of_hours(
    settings: Settings, declare: MakeFeed, tmp_path: Path
) -> None:
    tse = declare("tse", "XTKS", "Asia/Tokyo", "2024-01-04")
    load(
        settings,
        tse,
        tmp_path,
        "symbol,exchange_timestamp,price,quantity,trade_id",
        "7203.T,2026-11-20T09:00:00+09:00,2800,100,j0",
        "7203.T,2026-11-20T11:29:59+09:00,2810,100,j1",
        "7203.T,2026-11-20T12:00:00+09:00,9999,100,j2",
        "7203.T,2026-11-20T12:30:00+09:00,2805,100,j3",
        "7203.T,2026-11-20T15:30:00+09:00,2807,100,j4",
    )
    assert catch_up(settings, tse).failed == 0
    told = evaluation(settings, tse, "trades", "inside_session", date(2026, 11, 20))
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (told.description or "").startswith("1 of 5 price-eligible trades lie outside")


def test_a_feed_whose_calendar_can_t_be_had_is_refused_before_anything_is_sent_and_harms_no_other(
    settings: Settings, declare: MakeFeed, tmp_path: Path
) -> None:
    tase = declare("tase", "XTAE", "Asia/Jerusalem", "2025-01-05")
    good = declare("good", "XTKS", "Asia/Tokyo", "2024-01-04")
    rows = ("symbol,exchange_timestamp,price,quantity,trade_id", "TEVA,2025-11-23T10:00:00+02:00,60.1,10,tv1")
    path = tmp_path / "tase.csv"
    path.write_text("\n".join([*rows, ""]), encoding="utf-8")
    refused = k2(settings, "load", "--feed", "tase", str(path))
    assert refused.exit_code == 1
    assert "tase.toml: key calendar: the sessions of 'XTAE' can't be had" in refused.stderr
    assert KafkaTopics(settings.bootstrap_servers).state(tase.topics.trades) is None
    load(settings, good, tmp_path, *rows)
    done = k2(settings, "catch-up", "--json")
    assert done.exit_code == 1, "of all feeds one was not caught up"
    assert "tase.toml: key calendar" in done.stderr
    caught_up = {each["feed"]: each for each in json.loads(done.stdout)}
    assert set(caught_up) == {"asx", "hitbtc", "sim", "good"}
    assert (caught_up["good"]["build_runs"], caught_up["good"]["failed"]) == (1, 0)
    assert k2(settings, "catch-up", "--feed", "good").exit_code == 0


def trade(number: int, day: date, at: datetime, **changes: Any) -> bytes:
    record = {
        "message_id": f"m{number}",
        "trade_id": f"t{number}",
        "symbol": "NK225",
        "exchange": "OSE",
        "asset_class": "futures",
        "exchange_timestamp": int(at.timestamp() * 1_000_000),
        "trade_date": day,
        "price": Decimal(50_000 + number).quantize(Decimal("1E-10")),
        "quantity": Decimal(1).quantize(Decimal("1E-8")),
        "currency": "JPY",
        "side": "BUY",
        "conditions": [],
        "action": "NEW",
        "corrects_trade_id": None,
        "sequence_number": None,
        "received_timestamp": at,
        "attributes": None,
        **changes,
    }
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(TRADE), record)
    return written.getvalue()


def produce(settings: Settings, feed: Feed, at: datetime, bodies: list[bytes]) -> None:
    ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
    registry = SchemaRegistry(settings.schema_registry_url)
    number = registry.register(subject_of(feed.topics.trades), TRADE)
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for body in bodies:
        producer.produce(
            feed.topics.trades, key=b"NK225", value=frame(number, body), timestamp=int(at.timestamp() * 1000)
        )
    assert producer.flush(30) == 0


def ingest(settings: Settings, feed: Feed, now: datetime) -> None:
    """Take what is pending, as a machine whose clock says a certain time."""
    topic = KafkaTopics(settings.bootstrap_servers).state(feed.topics.trades)
    assert topic is not None
    table = raw_table(settings, feed)
    Ingestion(
        feed=feed.name,
        topic=topic.name,
        reader=TopicReader(settings.bootstrap_servers, topic.name, "test"),
        registry=SchemaRegistry(settings.schema_registry_url),
        table=table,
        window=DayWindow.of(feed, now),
        published_days=frozenset(),
        run_id="by-hand",
    ).run(topic.readable - table.ledger().covered, topic.readable - topic.readable)


def raw_table(settings: Settings, feed: Feed) -> RawTable:
    return RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, TRADES)


def test_dead_letters_whose_day_has_come_are_tried_again_by_catch_up_and_the_others_not_for_ever(
    settings: Settings, declare: MakeFeed
) -> None:
    ose = declare("ose", "XTKS", "Asia/Tokyo", "2026-01-05")
    monday, tuesday, friday = date(2026, 11, 16), date(2026, 11, 17), date(2026, 11, 20)
    evening = datetime(2026, 11, 16, 8, 5, tzinfo=UTC)  # 17:05 in Tokyo
    late_clock = evening - timedelta(days=7)
    bodies = [
        trade(1, monday, evening),
        trade(2, tuesday, evening),
        trade(3, tuesday, evening),
        trade(4, friday, evening, conditions=["x" * 300]),  # wrong in another way, too
        trade(5, date(2030, 1, 1), evening),  # its day has not come yet
    ]
    produce(settings, ose, evening, bodies)
    ingest(settings, ose, late_clock)
    dead = "SELECT trade_date, reject_reason FROM ose.raw_trades WHERE reject_reason IS NOT NULL ORDER BY kafka_offset"
    assert len(asked(settings, ose, dead)) == 5
    done = catch_up(settings, ose)
    assert (done.ingest_runs, done.failed) == (1, 0)
    left = asked(settings, ose, dead)
    assert [reason for _, reason in left] == [
        "a condition of 300 characters, at most 256",
        "trade_date 2030-01-01 outside 2026-01-05..2026-11-10",
    ]
    assert daily(settings, ose) == {
        "2026-11-16": (50001, 50001, 50001, 50001, 1),
        "2026-11-17": (50002, 50003, 50002, 50003, 2),
    }
    assert raw_table(settings, ose).ledger().dead_letters == 2
    snapshots = raw_table(settings, ose).view().snapshot_id
    again = catch_up(settings, ose)
    assert (again.ingest_runs, again.build_runs, again.failed) == (0, 0, 0)
    assert raw_table(settings, ose).view().snapshot_id == snapshots
    proof = k2(settings, "verify", "ledger", "--feed", "ose")
    assert proof.exit_code == 0, proof.output
