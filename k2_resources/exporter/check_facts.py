"""Collects metrics of asset checks from Dagster's event log: each day's latest outcome and findings.

The log is read once; after that only what is new, and what was still planned.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_resources.exporter.materialization_facts import asset_figures
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source

_FIRST_PAGE = 5
_NEXT_PAGES = 500
_PLANNED_FOR_SECONDS = 24 * 3600.0
"""Time after which a planned evaluation is no longer waited for: its run has ended without it."""
_STATUSES = ("passed", "warned", "failed")
_FOUND = {
    ("sequence_gaps", "missing"): "k2_missing_messages",
    ("sequence_gaps", "gaps"): "k2_sequence_gaps",
    ("duplicate_messages", "duplicates"): "k2_duplicate_messages",
    ("prices_positive", "nonpositive"): "k2_nonpositive_trades",
    ("inside_session", "outside"): "k2_trades_outside_session",
}
"""Check and number of its finding, to the metric that sums it up over all days."""


@dataclass
class _Latest:
    """A check's latest evaluation on one day."""

    id: int
    status: str
    numbers: Mapping[str, float]


@dataclass
class _CheckHistory:
    """Describes what has been read of a check's evaluations; those with ids up to ``settled`` can't change any more."""

    settled: int = 0
    counted: set[int] = field(default_factory=set)
    evaluations: Counter[str] = field(default_factory=Counter)
    days: dict[str | None, _Latest] = field(default_factory=dict)
    last: float = 0.0


class CheckFacts:
    """Follows the evaluations of some checks."""

    source = Source.CHECKS

    def __init__(
        self, instance: Callable[[], dg.DagsterInstance], feeds: Iterable[Feed], checks: Iterable[dg.AssetCheckKey]
    ) -> None:
        self._instance = instance
        self._feeds = {feed.name: feed for feed in feeds}
        self._histories = {check: _CheckHistory() for check in checks}

    def report(self, figures: Figures) -> None:
        """Fill in the figures; a check that was never evaluated has none."""
        instance = self._instance()
        for check, history in self._histories.items():
            feed = self._feeds[check.asset_key.path[0]]
            _read_on(instance, check, history, TradingCalendar.of(feed))
            if history.days:
                _report(asset_figures(figures, feed, check.asset_key), check, history)


def _read_on(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, history: _CheckHistory, calendar: TradingCalendar
) -> None:
    waited_for_since = time.time() - _PLANNED_FOR_SECONDS
    newest, oldest_waiting = history.settled, sys.maxsize
    for record in _newer_than(instance, check, history.settled):
        newest = max(newest, record.id)
        if record.status is AssetCheckExecutionRecordStatus.PLANNED:
            if record.create_timestamp > waited_for_since:
                oldest_waiting = min(oldest_waiting, record.id)
        elif record.id not in history.counted:
            _count(record, history, calendar)
    history.settled = min(newest, oldest_waiting - 1)
    history.counted = {each for each in history.counted if each > history.settled}


def _newer_than(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, settled: int
) -> Iterator[AssetCheckExecutionRecord]:
    """Yield a check's records with ids beyond one, newest first, in pages that grow, since little is new."""
    limit, cursor = _FIRST_PAGE, None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(check, limit=limit, cursor=cursor)
        for record in page:
            if record.id <= settled:
                return
            yield record
        if len(page) < limit:
            return
        limit, cursor = _NEXT_PAGES, page[-1].id


def _count(record: AssetCheckExecutionRecord, history: _CheckHistory, calendar: TradingCalendar) -> None:
    event = None if record.event is None else record.event.dagster_event
    if record.event is None or event is None:
        return
    evaluation = event.asset_check_evaluation_data
    status = _status(evaluation)
    history.counted.add(record.id)
    history.evaluations[status] += 1
    history.last = max(history.last, record.event.timestamp)
    day = evaluation.partition
    # A closed date was a partition of its own once: it counts for its session, which what is found now is about.
    session = None if day is None else calendar.reporting_session(date.fromisoformat(day)).isoformat()
    latest = history.days.get(session)
    if latest is None or latest.id < record.id:
        values = {name: each.value for name, each in evaluation.metadata.items()}
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        history.days[session] = _Latest(record.id, status, numbers)


def _status(evaluation: dg.AssetCheckEvaluation) -> str:
    if evaluation.passed:
        return "passed"
    return "warned" if evaluation.severity is dg.AssetCheckSeverity.WARN else "failed"


def _report(figures: Figures, check: dg.AssetCheckKey, history: _CheckHistory) -> None:
    days = Counter(latest.status for latest in history.days.values())
    for status in _STATUSES:
        figures.gauge("k2_check_partitions").set(days[status], check=check.name, status=status)
        figures.counter("k2_check_evaluations_total").add(history.evaluations[status], check=check.name, status=status)
    figures.gauge("k2_check_last_evaluated_timestamp_seconds").set(history.last, check=check.name)
    for (name, number), metric in _FOUND.items():
        if name == check.name:
            figures.gauge(metric).set(sum(latest.numbers.get(number, 0) for latest in history.days.values()))
