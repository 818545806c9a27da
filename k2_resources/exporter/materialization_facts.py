"""Collects metrics of materializations from Dagster's event log: freshness, days, durations.

The log is read once; after that only what is new.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from k2_market.feeds.feed import Feed
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source

_PAGE = 500
_FAILED_DAYS_EVERY_SECONDS = 30.0
"""Interval between questions for failed days, each over all events of an asset: a fifth of a second with 5,000 days."""
_DURATIONS = {
    "read_seconds": "k2_ingest_read_duration_seconds",
    "decode_seconds": "k2_ingest_decode_duration_seconds",
    "write_seconds": "k2_iceberg_write_duration_seconds",
    "commit_seconds": "k2_iceberg_commit_duration_seconds",
    "build_seconds": "k2_build_duration_seconds",
}
"""Metadata of a materialization to the histogram it counts in."""


@dataclass
class _AssetHistory:
    """Describes what has been read of an asset's materializations."""

    after: int | None = None
    total: int = 0
    days: set[str] = field(default_factory=set)
    last: float = 0.0
    durations: Figures = field(default_factory=Figures)
    run_id: str = ""
    measured: set[tuple[str, float]] = field(default_factory=set)
    failed_days: int = 0
    failed_days_at: float = -math.inf


class MaterializationFacts:
    """Follows the materializations of some assets (``<feed>/<table>``)."""

    source = Source.MATERIALIZATIONS

    def __init__(
        self, instance: Callable[[], dg.DagsterInstance], feeds: Iterable[Feed], assets: Iterable[dg.AssetKey]
    ) -> None:
        self._instance = instance
        self._feeds = {feed.name: feed for feed in feeds}
        self._histories = {asset: _AssetHistory() for asset in assets}

    def report(self, figures: Figures) -> None:
        """Fill in the figures; an asset that was never materialized has none but its failed days."""
        instance = self._instance()
        for asset, history in self._histories.items():
            of_asset = asset_figures(figures, self._feeds[asset.path[0]], asset)
            _read_on(instance, asset, history, self._feeds[asset.path[0]])
            if time.monotonic() - history.failed_days_at >= _FAILED_DAYS_EVERY_SECONDS:
                history.failed_days, history.failed_days_at = _failed_days(instance, asset), time.monotonic()
            of_asset.gauge("k2_asset_partitions_failed").set(history.failed_days)
            if history.total:
                _report(of_asset, history)
                figures.add(history.durations.counts())


def asset_figures(figures: Figures, feed: Feed, asset: dg.AssetKey) -> Figures:
    """Return figures that carry an asset's labels."""
    return figures.with_labels(
        exchange=feed.exchange, asset_class=feed.asset_class, feed=feed.name, asset=asset.to_user_string()
    )


def _read_on(instance: dg.DagsterInstance, asset: dg.AssetKey, history: _AssetHistory, feed: Feed) -> None:
    durations = asset_figures(history.durations, feed, asset)
    while True:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset, after_storage_id=history.after), limit=_PAGE, ascending=True
        ).records
        for record in records:
            _count(record, history, durations)
            history.after = record.storage_id
        if len(records) < _PAGE:
            return


def _count(record: dg.EventLogRecord, history: _AssetHistory, durations: Figures) -> None:
    materialization = record.asset_materialization
    if materialization is None:
        return
    history.total += 1
    history.last = max(history.last, record.timestamp)
    if materialization.partition is not None:
        history.days.add(materialization.partition)
    if record.run_id != history.run_id:
        history.run_id, history.measured = record.run_id, set()
    for name, metric in _DURATIONS.items():
        value = materialization.metadata.get(name)
        if value is not None and isinstance(value.value, int | float):
            # A run that brings several days reports what it did once for all of them with each.
            measurement = (name, float(value.value))
            if measurement not in history.measured:
                history.measured.add(measurement)
                durations.histogram(metric).observe(measurement[1])


def _report(figures: Figures, history: _AssetHistory) -> None:
    figures.counter("k2_asset_materializations_total").add(history.total)
    figures.gauge("k2_asset_last_materialized_timestamp_seconds").set(history.last)
    figures.gauge("k2_asset_freshness_seconds").set(max(0.0, time.time() - history.last))
    figures.gauge("k2_asset_partitions_materialized").set(len(history.days))
    if history.days:
        newest = datetime.fromisoformat(max(history.days)).replace(tzinfo=UTC)
        figures.gauge("k2_asset_newest_trade_date_timestamp_seconds").set(newest.timestamp())


def _failed_days(instance: dg.DagsterInstance, asset: dg.AssetKey) -> int:
    """Return days whose last attempt was planned and not carried out, by a run that failed."""
    attempts = instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
        asset
    )
    run_ids = {run_id for run_id, _ in attempts.values()}
    if not run_ids:
        return 0
    failed = dg.RunsFilter(run_ids=list(run_ids), statuses=[dg.DagsterRunStatus.FAILURE])
    failed_ids = {record.dagster_run.run_id for record in instance.get_run_records(failed)}
    return sum(run_id in failed_ids for run_id, _ in attempts.values())
