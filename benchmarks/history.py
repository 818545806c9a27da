"""A history loaded through a real daemon: a topic of many trading days, until every day has all its bars.

``make bench-history``: a home of its own; 1,000 trading days of 20,000 trades lie on the topic before Dagster starts.
The clock runs from ``k2 up`` to the day whose last bars came last. At the end every day must have its own
materialization and its own result of every check, and the rows must be as many as the messages.
"""

import argparse
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from confluent_kafka import Producer
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from benchmarks.own_home import k2, own_home
from benchmarks.results_file import write_results
from k2_assets.checks import TRADE_CHECKS, bar_checks_of
from k2_market.feeds.feed import Feed, feed_named, load_feeds
from k2_market.feeds.trading_calendar import CalendarError, TradingCalendar
from k2_market.kinds.trades import CLEAN_TRADES, TRADES
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_market.messages.outgoing import trade_messages
from k2_market.schemas.avro import TRADE, subject_of
from k2_market.schemas.tables import BAR_INTERVALS
from k2_market.simulation.market_simulator import simulate_day
from k2_platform.catch_up import local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.trade_producer import producer_settings
from k2_resources.raw.table import RawTable
from k2_resources.settings import SHIPPED_FEEDS, Settings

LAST_DAY = date(2026, 11, 20)
_SYMBOLS = 100
_MOST_SECONDS = 7_200
_LOOK_SECONDS = 2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--days", type=int, default=1_000)
    arguments.add_argument("--trades", type=int, default=20_000, help="a day")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as feeds, own_home(feeds_dir=Path(feeds)) as settings:
        days = _declare(Path(feeds), chosen.days)
        feed = feed_named(load_feeds(settings.feed_directories), "history")
        k2(settings, "up", "--only", "kafka,registry")
        _fill(settings, feed, days, chosen.trades)
        started = time.time()
        k2(settings, "up")
        peak = _until_built(settings, feed, days)
        seconds = time.time() - started
        figures = _checked(settings, feed, days, chosen.trades)
    write_results("history", {**figures, "seconds": round(seconds, 1), "peak_rss_bytes_of_a_process": peak})


def _declare(directory: Path, count: int) -> list[date]:
    """Write the feed's file; its trading days, oldest first."""
    shipped = (SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")
    text = shipped.replace('name = "sim"', 'name = "history"').replace(".sim", ".history")
    early = LAST_DAY - timedelta(days=count * 2)
    (directory / "history.toml").write_text(text.replace("2026-01-02", early.isoformat()), encoding="utf-8")
    calendar = TradingCalendar.of(feed_named(load_feeds([directory]), "history"))
    days: list[date] = []
    day = LAST_DAY
    while len(days) < count:
        if _is_trading_day(calendar, day):
            days.append(day)
        day -= timedelta(days=1)
    (directory / "history.toml").write_text(text.replace("2026-01-02", days[-1].isoformat()), encoding="utf-8")
    return days[::-1]


def _is_trading_day(calendar: TradingCalendar, day: date) -> bool:
    try:
        calendar.session(day)
    except CalendarError:
        return False
    return True


def _fill(settings: Settings, feed: Feed, days: list[date], trades: int) -> None:
    ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
    registry = SchemaRegistry(settings.schema_registry_url)
    schema_id = registry.register(subject_of(feed.topics.trades), TRADE)
    calendar, producer = TradingCalendar.of(feed), Producer(producer_settings(settings.bootstrap_servers))
    for number, day in enumerate(days):
        of_day = simulate_day(feed, calendar.session(day), day, trades, number, _SYMBOLS)
        messages = trade_messages(of_day, feed, schema_id)
        for key, value, timestamp_ms in zip(messages.keys, messages.values, messages.timestamps_ms, strict=True):
            producer.produce(feed.topics.trades, value, key, timestamp=timestamp_ms)
        producer.flush()
    print(f"  {len(days)} days of {trades} trades are on the topic", flush=True)


def _until_built(settings: Settings, feed: Feed, days: list[date]) -> int:
    """Wait for every day's last bars and the end of all runs; the most memory that a process of the home held."""
    last = dg.AssetKey([feed.name, BAR_INTERVALS[-1].table])
    wanted = {day.isoformat() for day in days}
    peak = 0
    with local_instance(settings) as instance:

        def look() -> int:
            nonlocal peak
            peak = max(peak, _largest_process(settings))
            under_way = instance.get_runs_count(dg.RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES)))
            return len(wanted - instance.get_materialized_partitions(last)) + under_way

        waiting = Retrying(
            retry=retry_if_result(bool), wait=wait_fixed(_LOOK_SECONDS), stop=stop_after_delay(_MOST_SECONDS)
        )
        waiting(look)
    return peak


def _largest_process(settings: Settings) -> int:
    found = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get("K2_HOME") == str(settings.home) and "java" not in process.name():
                found = max(found, process.memory_info().rss)
        except psutil.Error:
            continue
    return found


def _checked(settings: Settings, feed: Feed, days: list[date], trades: int) -> dict[str, Any]:
    """See that nothing is missing.

    Raises:
        AssertionError: A row, a day's materialization or a day's check result is.
    """
    names = {TRADES.raw_table: tuple(TRADES.checks), CLEAN_TRADES: tuple(TRADE_CHECKS)}
    names |= {interval.table: tuple(bar_checks_of(interval)) for interval in BAR_INTERVALS}
    view = RawTable(
        open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, TRADES_KIND
    ).view()
    assert view.rows == len(days) * trades, f"{view.rows} rows of {len(days) * trades} messages"
    results = 0
    with local_instance(settings) as instance:
        for table, checks in names.items():
            made = instance.get_materialized_partitions(dg.AssetKey([feed.name, table]))
            assert {day.isoformat() for day in days} <= made, f"{table} lacks days"
            keys = [dg.AssetCheckKey(dg.AssetKey([feed.name, table]), check) for check in checks]
            found = {
                (each.check_key, each.partition_key)
                for each in instance.event_log_storage.get_asset_check_partition_info(keys)
            }
            assert found >= {(key, day.isoformat()) for key in keys for day in days}, f"{table} lacks check results"
            results += len(keys) * len(days)
        runs = instance.get_runs()
    failed = [run for run in runs if run.status is dg.DagsterRunStatus.FAILURE]
    return {
        "days": len(days),
        "trades_a_day": trades,
        "messages": len(days) * trades,
        "runs": len(runs),
        "failed_runs": len(failed),
        "check_results": results,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    main()
