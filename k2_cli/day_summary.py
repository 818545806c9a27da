"""What became of each day of a feed, counted along its way: messages, rows, dead letters, trades, bars, checks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from rich import box
from rich.console import Console
from rich.table import Table

from k2_assets.checks import RAW_CHECKS, TRADE_CHECKS, bar_checks_of
from k2_assets.partitions import day_of
from k2_assets.raw_trades import RAW_TRADES
from k2_assets.trades import TRADES
from k2_market.feed import Feed
from k2_market.simulated_faults import PlantedFault
from k2_market.table_schemas import BAR_INTERVALS, MINUTE
from k2_market.trading_calendar import TradingCalendar
from k2_resources.day_planning import day_files
from k2_resources.iceberg_catalog import find_table, open_catalog
from k2_resources.kafka_topics import KafkaTopics
from k2_resources.raw_table import RawTable
from k2_resources.settings import Settings


@dataclass(frozen=True)
class Found:
    """A check that did not pass, and what it says."""

    check: str
    severity: str
    description: str


@dataclass(frozen=True)
class DaySummary:
    """One trading day of a feed.

    ``messages`` is counted in Kafka by record time, the other figures in the tables; ``checks`` are the latest
    results of each check, by outcome.
    """

    feed: str
    day: date
    messages: int
    raw_rows: int
    dead_letters: int
    trades: int
    minute_bars: int
    checks: Counter[str]
    found: tuple[Found, ...]


def summaries(settings: Settings, feed: Feed, instance: dg.DagsterInstance) -> list[DaySummary]:
    """Every day that a feed has raw rows for, oldest first."""
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    raw = RawTable(catalog, feed.name).view()
    tables = {name: find_table(catalog, feed.name, name) for name in (TRADES, MINUTE.table)}
    made = sorted(map(day_of, instance.get_materialized_partitions(dg.AssetKey([feed.name, RAW_TRADES]))))
    days = []
    for day in made:
        reasons = raw.read_day(day, "reject_reason")["reject_reason"]
        found = _failed_checks(feed, day, instance)
        checks = Counter(each.severity for each in found)
        checks["passed"] = _checks_run(feed, day, instance) - len(found)
        days.append(
            DaySummary(
                feed=feed.name,
                day=day,
                messages=_messages_of(settings, feed, day),
                raw_rows=len(reasons),
                dead_letters=len(reasons) - reasons.null_count,
                trades=day_files(tables[TRADES], day).rows,
                minute_bars=day_files(tables[MINUTE.table], day).rows,
                checks=checks,
                found=found,
            )
        )
    return days


def summary_table(days: Sequence[DaySummary]) -> Table:
    """The days as a table."""
    table = Table(box=box.SIMPLE_HEAD, title="What came of it", title_justify="left")
    for name in ("feed", "day"):
        table.add_column(name, no_wrap=True)
    names = ("messages", "raw rows", "dead letters", "trades", "1m bars", "checks passed", "warned", "failed")
    for name in names:
        table.add_column(name, justify="right")
    for each in days:
        counts = (each.messages, each.raw_rows, each.dead_letters, each.trades, each.minute_bars)
        outcomes = (each.checks["passed"], each.checks["WARN"], each.checks["ERROR"])
        table.add_row(each.feed, each.day.isoformat(), *(f"{count:,}" for count in (*counts, *outcomes)))
    return table


def print_where_to_look(
    settings: Settings, days: Sequence[DaySummary], planted: Sequence[PlantedFault], console: Console
) -> None:
    """Say what the checks found, and where all of it can be looked at."""
    if planted:
        counts: Counter[str] = Counter()
        for each in planted:
            counts[each.fault.value] += each.count
        console.print("Planted: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for day in days:
        for found in day.found:
            style = "red" if found.severity == "ERROR" else "yellow"
            console.print(f"  {day.feed} {day.day} {found.check} ({found.severity}): {found.description}", style=style)
    last = days[-1] if days else None
    console.print("Where to look:")
    console.print(f"  http://127.0.0.1:{settings.dagster_port}  the assets, their days and checks (Dagster)")
    console.print(f"  http://127.0.0.1:{settings.metrics_port}/metrics  the same as figures (Prometheus)")
    if last is not None:
        console.print(f"  k2 sql 'SELECT * FROM {last.feed}.ohlcv_1d ORDER BY trade_date, symbol'")
    if last is not None and last.feed == "asx":
        console.print(f"  k2 bars BHP --feed asx --date {days[-1].day} --interval 5m")
    console.print("  k2 status, k2 down")


def _messages_of(settings: Settings, feed: Feed, day: date) -> int:
    """Messages in the topic whose record time lies in a day; exact where a partition's records are in order of days."""
    topics = KafkaTopics(settings.bootstrap_servers)
    topic = topics.state(feed.topics.trades)
    if topic is None:
        return 0
    starts, ends = (topics.offsets_at(topic, instant) for instant in TradingCalendar.of(feed).instants_of(day))
    return sum(max(0, ends[partition] - starts[partition]) for partition in starts)


def _check_keys(feed: Feed) -> list[dg.AssetCheckKey]:
    names = {RAW_TRADES: RAW_CHECKS, TRADES: TRADE_CHECKS, **{i.table: bar_checks_of(i) for i in BAR_INTERVALS}}
    return [
        dg.AssetCheckKey(dg.AssetKey([feed.name, table]), check) for table, checks in names.items() for check in checks
    ]


def _latest_evaluations(feed: Feed, day: date, instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        _check_keys(feed), partition_filter=PartitionKeyFilter(key=day.isoformat())
    )
    events = [record.event.dagster_event for record in records.values() if record.event is not None]
    return [
        event.asset_check_evaluation_data
        for event in events
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]


def _checks_run(feed: Feed, day: date, instance: dg.DagsterInstance) -> int:
    return len(_latest_evaluations(feed, day, instance))


def _failed_checks(feed: Feed, day: date, instance: dg.DagsterInstance) -> tuple[Found, ...]:
    return tuple(
        Found(f"{each.asset_key.to_user_string()} {each.check_name}", each.severity.value, each.description or "")
        for each in _latest_evaluations(feed, day, instance)
        if not each.passed
    )
