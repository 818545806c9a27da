"""Counts each day of a feed along its way: messages, rows, dead letters, trades, bars, and how its checks stand.

Tables are read without Dagster and Kafka's client, which are imported only where there are records and a topic to read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from rich import box
from rich.console import Console
from rich.table import Table

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import CLEAN_TRADES, TRADES
from k2_market.plans.build_rules import BuildRules
from k2_market.plans.day_builds import outdated_days, stale_days
from k2_market.schemas.tables import DAY, MINUTE
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.day_table import builds_of
from k2_resources.iceberg.scan_files import files_by_day, filled_by_day
from k2_resources.raw.view import day_versions_of
from k2_resources.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from k2_market.simulation.simulated_faults import PlantedFault


@dataclass(frozen=True)
class DayCounts:
    """A check that did not pass, and what it says."""

    check: str
    severity: str
    description: str


@dataclass(frozen=True)
class DaySummary:
    """Counts one trading day of a feed.

    Attributes:
        feed: The feed's name.
        day: The trading day.
        messages: Messages in Kafka by record time; None where Kafka does not answer.
        raw_rows: Rows of the raw table.
        dead_letters: Those that did not decode.
        trades: Rows of ``trades``.
        minute_bars: Rows of ``ohlcv_1m``.
        checks: The latest results of each check, by outcome: ``passed``, ``WARN``, ``ERROR``; None where Dagster, which
            has the records, is not installed.
        found: The checks that did not pass.
        bars: ``to build`` where rows are newer than what was built, ``outdated`` where it was built under other rules
            than the feed's file has, else ``current``.
    """

    feed: str
    day: date
    messages: int | None
    raw_rows: int
    dead_letters: int
    trades: int
    minute_bars: int
    checks: Counter[str] | None
    found: tuple[DayCounts, ...]
    bars: str

    @property
    def is_bad(self) -> bool:
        """Say whether the day needs attention: a failed check, dead letters, bars that are behind."""
        return bool(self.found or self.dead_letters or self.bars != "current")


@dataclass(frozen=True)
class DayStates:
    """Describes which days of a feed there are, and which of them are not as they should be.

    Attributes:
        days: Days with raw rows, oldest first.
        checked: How many checks have a result, by session; a closed date's are those of the next session.
        failed: How many of them did not pass, by day.
        stale: Days to build.
        outdated: Days that were built under other rules.
    """

    days: tuple[date, ...]
    checked: Mapping[date, int]
    failed: Mapping[date, int]
    stale: frozenset[date]
    outdated: frozenset[date]


def day_states(catalog: Catalog, feed: Feed, instance: "dg.DagsterInstance | None") -> DayStates:
    """Look up how the days of a feed stand; reads properties of tables and Dagster's records of checks.

    Args:
        catalog: Has the feed's tables.
        feed: The feed.
        instance: Dagster's records; None where there are none yet.
    """
    raw = find_table(catalog, feed.name, TRADES.raw_table)
    built = find_table(catalog, feed.name, DAY.table)
    versions = {} if raw is None else day_versions_of(raw)
    builds = {} if built is None else builds_of(built)
    checked, failed = (Counter[date](), Counter[date]()) if instance is None else _check_counts(feed, instance)
    return DayStates(
        days=tuple(sorted(versions)),
        checked=checked,
        failed={day: count for day, count in failed.items() if count},
        stale=frozenset(stale_days(versions, builds)),
        outdated=frozenset(outdated_days(builds, BuildRules.of(feed).fingerprint)),
    )


def _check_counts(feed: Feed, instance: "dg.DagsterInstance") -> tuple[Counter[date], Counter[date]]:
    """Count, by session, the checks that have a result and those that did not pass."""
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

    from k2_assets.checks import check_keys
    from k2_assets.records.check_history import latest_of_sessions

    checked: Counter[date] = Counter()
    failed: Counter[date] = Counter()
    infos = instance.event_log_storage.get_asset_check_partition_info(check_keys(feed.name, [TRADES]))
    for (_, session), info in latest_of_sessions(infos, TradingCalendar.of(feed)).items():
        if info.latest_execution_status in (Status.SUCCEEDED, Status.FAILED):
            checked[session] += 1
            failed[session] += info.latest_execution_status is Status.FAILED
    return checked, failed


def summaries(
    settings: Settings, feed: Feed, catalog: Catalog, instance: "dg.DagsterInstance | None", states: DayStates
) -> list[DaySummary]:
    """Count the days of some states, oldest first; reads manifests, no data."""
    days = states.days
    dead = filled_by_day(find_table(catalog, feed.name, TRADES.raw_table), "reject_reason")
    raw, trades, minutes = (
        files_by_day(find_table(catalog, feed.name, name), days)
        for name in (TRADES.raw_table, CLEAN_TRADES, MINUTE.table)
    )
    messages, calendar = _messages_by_day(settings, feed, days), TradingCalendar.of(feed)
    found = []
    has_records = instance is not None or find_spec("dagster") is not None
    for day in days:
        session = calendar.reporting_session(day)
        bad = _failed_checks(feed, session, instance) if instance is not None and session in states.failed else ()
        outcomes = Counter(each.severity for each in bad)
        outcomes["passed"] = states.checked.get(session, 0) - states.failed.get(session, 0)
        found.append(
            DaySummary(
                feed=feed.name,
                day=day,
                messages=messages.get(day),
                raw_rows=raw[day].rows,
                dead_letters=dead.get(day, 0),
                trades=trades[day].rows,
                minute_bars=minutes[day].rows,
                checks=outcomes if has_records else None,
                found=bad,
                bars="to build" if day in states.stale else "outdated" if day in states.outdated else "current",
            )
        )
    return found


def summary_table(days: Sequence[DaySummary], title: str | None = None) -> Table:
    """Lay the days out as a table."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("feed", "day"):
        table.add_column(name, no_wrap=True)
    names = ("messages", "raw rows", "dead letters", TRADES.name, "1m bars", "checks passed", "warned", "failed")
    for name in names:
        table.add_column(name, justify="right")
    behind = any(each.bars != "current" for each in days)
    if behind:
        table.add_column("bars", no_wrap=True)
    for each in days:
        counts = (each.messages, each.raw_rows, each.dead_letters, each.trades, each.minute_bars)
        outcomes = [None if each.checks is None else each.checks[outcome] for outcome in ("passed", "WARN", "ERROR")]
        figures = ("?" if count is None else f"{count:,}" for count in (*counts, *outcomes))
        table.add_row(each.feed, each.day.isoformat(), *figures, *([each.bars] if behind else []))
    return table


def print_findings(days: Sequence[DaySummary], console: Console) -> None:
    """Print a line for each check that did not pass."""
    for day in days:
        for found in day.found:
            style = "red" if found.severity == "ERROR" else "yellow"
            console.print(f"  {day.feed} {day.day} {found.check} ({found.severity}): {found.description}", style=style)


def print_next_steps(
    settings: Settings, days: Sequence[DaySummary], planted: "Sequence[PlantedFault]", console: Console
) -> None:
    """Print the checks' findings, and where to see all of it."""
    if planted:
        counts: Counter[str] = Counter()
        for each in planted:
            counts[each.fault.value] += each.count
        console.print("Planted: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    print_findings(days, console)
    for day in days:
        others = day.raw_rows - day.dead_letters - day.trades
        if day.dead_letters or others:
            console.print(
                f"  {day.feed} {day.day}: of {day.raw_rows:,} messages {day.trades:,} are trades that stand. "
                f"{day.dead_letters:,} did not decode; {others:,} are repetitions, cancels and corrections, and the "
                "trades that those take back or replace.",
                style="dim",
            )
    last = days[-1] if days else None
    console.print("Where to look:")
    console.print(f"  http://127.0.0.1:{settings.dagster_port}  the assets, their days and checks (Dagster)")
    console.print(f"  http://127.0.0.1:{settings.metrics_port}/metrics  the same as figures (Prometheus)")
    if last is not None:
        console.print(f"  k2 sql 'SELECT * FROM {last.feed}.ohlcv_1d ORDER BY trade_date, symbol'")
    if last is not None and last.feed == "asx":
        console.print(f"  k2 bars BHP --feed asx --date {days[-1].day} --interval 5m")
    console.print("  k2 days --feed sim, k2 status, k2 down")


def as_json(day: DaySummary) -> dict[str, object]:
    """Give a day as JSON takes it."""
    names = {"passed": "passed", "WARN": "warned", "ERROR": "failed"}
    checks = None if day.checks is None else {name: day.checks[outcome] for outcome, name in names.items()}
    return {**asdict(day), "day": day.day.isoformat(), "checks": checks}


def _messages_by_day(settings: Settings, feed: Feed, days: Sequence[date]) -> dict[date, int]:
    """Count messages whose record time lies in a day; exact where a partition's records are in order of days.

    Empty where Kafka does not answer or its client is not installed.
    """
    if find_spec("confluent_kafka") is None:
        return {}
    from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable

    topics, calendar = KafkaTopics(settings.bootstrap_servers), TradingCalendar.of(feed)
    found = {}
    try:
        topic = topics.state(feed.topics.trades)
        for day in days:
            starts, ends = (
                ({}, {}) if topic is None else (topics.offsets_at(topic, at) for at in calendar.instants_of(day))
            )
            found[day] = sum(max(0, ends[partition] - starts[partition]) for partition in starts)
    except KafkaUnavailable:
        return {}
    return found


def _failed_checks(feed: Feed, day: date, instance: "dg.DagsterInstance") -> tuple[DayCounts, ...]:
    import dagster as dg
    from dagster._core.event_api import PartitionKeyFilter

    from k2_assets.checks import check_keys

    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        check_keys(feed.name, [TRADES]), partition_filter=PartitionKeyFilter(key=day.isoformat())
    )
    events = [record.event.dagster_event for record in records.values() if record.event is not None]
    evaluations = [
        event.asset_check_evaluation_data
        for event in events
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return tuple(
        DayCounts(f"{each.asset_key.to_user_string()} {each.check_name}", each.severity.value, each.description or "")
        for each in evaluations
        if not each.passed
    )
