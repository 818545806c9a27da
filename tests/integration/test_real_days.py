"""Real trades from file to bar, through Kafka, the sensors' plans and the jobs; the issue's own figures."""

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.loads.loads import LoadedBefore
from k2_market.schemas.tables import BAR_INTERVALS
from k2_market.sources.format import SourceFormat
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_platform.producing import produce_files
from k2_resources.iceberg.catalog import find_table, open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

FEEDS = SHIPPED_FEEDS
ASX_DAYS = [date(2014, 3, day) for day in (10, 11, 12, 13, 14)]
NOW = datetime.now(UTC)


def own_topic(feed: Feed, name: str) -> Feed:
    """The feed with a topic of the test's own, so that tests share a broker."""
    topics = feed.topics.model_copy(update={"trades": f"{feed.topics.trades}.{name}"})
    return feed.model_copy(update={"topics": topics})


class Platform:
    """A home of the test's own on the session's broker and registry."""

    def __init__(self, settings: Settings, feed: Feed) -> None:
        self.settings, self.feed = settings, feed
        self.catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)

    def load(self, *files: Path, source_format: SourceFormat, again: bool = False) -> int:
        return produce_files(self.settings, self.feed, list(map(str, files)), source_format, NOW, again).messages

    def catch_up(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> CaughtUp:
        with local_instance(self.settings) as instance:
            return catch_up_feed(self.settings, self.feed, TRADES, instance, now)

    def day(self, table: str, day: date) -> pa.Table:
        return DayTable(self.catalog, self.feed.name, table).read_day(day)

    def bar(self, symbol: str, day: date) -> dict[str, Any]:
        (bar,) = [row for row in self.day("ohlcv_1d", day).to_pylist() if row["symbol"] == symbol]
        return bar

    def files(self, table: str) -> dict[date, set[str]]:
        loaded = find_table(self.catalog, self.feed.name, table)
        assert loaded is not None
        found: dict[date, set[str]] = {}
        for task in loaded.scan().plan_files():
            day = date(1970, 1, 1) + timedelta(days=task.file.partition[0])
            found.setdefault(day, set()).add(task.file.file_path)
        return found

    def digest(self) -> str:
        """Of every row of trades and of all bars, in their published order."""
        content = hashlib.sha256()
        for table in ("trades", *(interval.table for interval in BAR_INTERVALS)):
            for day in ASX_DAYS:
                content.update(str(self.day(table, day).to_pylist()).encode())
        return content.hexdigest()


@pytest.fixture(scope="module")
def asx(tmp_path_factory: pytest.TempPathFactory, kafka, registry, market_data: Path) -> Platform:
    home = tmp_path_factory.mktemp("asx") / "k2"
    settings = Settings(home=home, kafka_bootstrap=kafka.bootstrap_servers, registry_url=registry.url)
    platform = Platform(settings, own_topic(load_feeds([FEEDS])["asx"], "real"))
    assert platform.load(market_data / "asx-2014-03" / "trades", source_format=SourceFormat.ASX_TICKDATA) == 200_545
    done = platform.catch_up()
    assert (done.failed, done.ingest_runs > 0, done.build_runs > 0) == (0, True, True)
    return platform


def test_asx_every_message_is_a_row_and_the_ledger_reconciles(asx: Platform) -> None:
    raw = RawTable(asx.catalog, "asx", TRADES).view()
    topic = KafkaTopics(asx.settings.bootstrap_servers).state(asx.feed.topics.trades)
    assert topic is not None
    assert raw.ledger.covered == topic.readable
    assert (raw.rows, raw.ledger.messages, raw.ledger.holes, raw.ledger.dead_letters) == (200_545, 200_545, 0, 0)
    assert sorted(asx.files("trades")) == ASX_DAYS


def test_asx_the_daily_bar_of_bhp_has_the_figures_of_the_feeds_conditions(asx: Platform) -> None:
    bar = asx.bar("BHP", date(2014, 3, 11))
    assert (bar["high"], bar["low"], bar["volume"]) == (Decimal("36.45"), Decimal("35.84"), Decimal(6_705_250))


def test_asx_every_check_passes_on_every_day(asx: Platform) -> None:
    with local_instance(asx.settings) as instance:
        runs = instance.get_runs()
        evaluations = [
            record.event_log_entry.dagster_event.asset_check_evaluation_data
            for run in runs
            for record in instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ).records
        ]
    assert {each.partition for each in evaluations} >= {day.isoformat() for day in ASX_DAYS}
    assert [each for each in evaluations if not each.passed] == []


@pytest.mark.slow
def test_asx_loaded_again_raw_rows_double_and_trades_and_bars_stay_bit_for_bit(
    asx: Platform, market_data: Path
) -> None:
    before, files = asx.digest(), asx.files("ohlcv_1m")
    trades = market_data / "asx-2014-03" / "trades"
    with pytest.raises(LoadedBefore, match="Nothing was sent"):
        asx.load(trades, source_format=SourceFormat.ASX_TICKDATA)
    asx.load(trades, source_format=SourceFormat.ASX_TICKDATA, again=True)
    assert asx.catch_up().failed == 0
    assert RawTable(asx.catalog, "asx", TRADES).view().rows == 401_090
    assert asx.digest() == before
    assert asx.files("ohlcv_1m") == files


def test_asx_late_trades_rebuild_their_day_and_touch_no_other_days_files(asx: Platform, tmp_path: Path) -> None:
    tables = ("trades", *(interval.table for interval in BAR_INTERVALS))
    files = {table: asx.files(table) for table in tables}
    before = asx.bar("BHP", date(2014, 3, 11))
    late = tmp_path / "late.csv"
    rows = [f"BHP,2014-03-11T03:{n // 60 % 60:02}:{n % 60:02}+00:00,36.00,10" for n in range(1_000)]
    late.write_text("symbol,exchange_timestamp,price,quantity\n" + "\n".join(rows) + "\n")
    assert asx.load(late, source_format=SourceFormat.CSV) == 1_000
    done = asx.catch_up()
    assert (done.ingest_runs, done.build_runs, done.failed) == (1, 1, 0)
    after = asx.bar("BHP", date(2014, 3, 11))
    assert after["volume"] == before["volume"] + 10_000
    assert after["trade_count"] == before["trade_count"] + 1_000
    for table in tables:
        now = asx.files(table)
        changed = {day for day in ASX_DAYS if now[day] != files[table][day]}
        assert changed == {date(2014, 3, 11)}, table
    assert RawTable(asx.catalog, "asx", TRADES).ledger().late_rows >= 1_000


def test_asx_with_nothing_pending_nothing_is_run(asx: Platform) -> None:
    done = asx.catch_up()
    assert (done.ingest_runs, done.build_runs) == (0, 0)


@pytest.mark.slow
def test_asx_when_every_print_counts_the_bar_is_the_naive_one(stack_settings: Settings, market_data: Path) -> None:
    feed = own_topic(load_feeds([FEEDS])["asx"], "every-print")
    naive = feed.model_copy(
        update={"conditions": feed.conditions.model_copy(update={"no_price": frozenset(), "no_volume": frozenset()})}
    )
    platform = Platform(stack_settings, naive)
    platform.load(market_data / "asx-2014-03" / "trades" / "7078.csv.gz", source_format=SourceFormat.ASX_TICKDATA)
    assert platform.catch_up().failed == 0
    bar = platform.bar("BHP", date(2014, 3, 11))
    assert (bar["high"], bar["low"], bar["volume"]) == (Decimal("42.00"), Decimal("35.772"), Decimal(8_919_376))


@pytest.mark.slow
def test_hitbtc_bars_equal_the_exchanges_own_candles(stack_settings: Settings, market_data: Path) -> None:
    platform = Platform(stack_settings, own_topic(load_feeds([FEEDS])["hitbtc"], "real"))
    directory = market_data / "hitbtc-2021"
    platform.load(directory / "trades.csv", source_format=SourceFormat.HITBTC)
    assert platform.catch_up().failed == 0
    days = sorted(platform.files("ohlcv_1m"))
    bars = {
        (row["symbol"], row["bar_start"]): tuple(row[name] for name in ("open", "high", "low", "close", "volume"))
        for day in days
        for row in platform.day("ohlcv_1m", day).to_pylist()
    }
    trades = pl.read_csv(directory / "trades.csv", infer_schema=False)
    when = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_zone="UTC")
    windows = {
        symbol: (first, last)
        for symbol, first, last in trades.group_by("symbol").agg(when.min().alias("a"), when.max().alias("b")).rows()
    }
    candles = pl.read_csv(directory / "candles_1m.csv", infer_schema=False).with_columns(when).rows(named=True)
    minute = timedelta(minutes=1)
    inside = [
        each
        for each in candles
        if each["symbol"] in windows
        and windows[each["symbol"]][0] <= each["timestamp"]
        and each["timestamp"] + minute <= windows[each["symbol"]][1]
    ]
    equal = [
        each
        for each in inside
        if bars.get((each["symbol"], each["timestamp"]))
        == tuple(Decimal(each[name]) for name in ("open", "high", "low", "close", "volume"))
    ]
    assert (len(equal), len(inside)) == (428, 428)
