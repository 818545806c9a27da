"""Defines the unchecked-day sensor: runs the raw checks on days whose newest rows are unchecked.

A run checks the days that it reports. One that was killed in between, or before it could report, leaves rows that
nobody would hear of if something is wrong with them, until the next message of their day comes. And the runs of a large
day that is still open leave their checks to this sensor, which paces them (#040).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_assets.names import family_name
from k2_assets.records.day_records import last_checked, report_numbers, rows_reported
from k2_assets.records.partitions import day_of, latest_of_session
from k2_assets.records.run_records import IN_FLIGHT, plan_tags
from k2_assets.records.run_scope import latest_record
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.plans.build_plan import is_open
from k2_market.plans.check_pacing import rest_of
from k2_market.quality.ledger_checks import OFFSETS_RECONCILE

INTERVAL_SECONDS = 30
CHECK_TAG = ".dagster/k2_check"
MOST_ATTEMPTS = 3
"""Checks that could not be carried out so often will not be by themselves; the run's alert has told of it."""


def unchecked_day_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """Return the sensor that keeps a feed's raw rows checked."""

    @dg.sensor(
        name=f"{family.name}_unchecked_day_sensor",
        job=family.ingest_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the checks of raw rows that no check has seen yet, as when their run was killed.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return next_check(family.feed, family.kind, context.instance, datetime.now(UTC))

    return sensor


def next_check(feed: Feed, kind: RawKind, instance: dg.DagsterInstance, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """Return the run of raw checks to request now, or why none; one day a run, so that no day waits for another."""
    raw, calendar = dg.AssetKey([feed.name, kind.raw_table]), TradingCalendar.of(feed)
    versions = latest_of_session(calendar, report_numbers(instance, raw))
    for day in unchecked_days(versions, latest_of_session(calendar, _checked_versions(instance, raw))):
        name = f"{family_name(feed.name, kind)}/{day}/{versions[day]}"
        attempts = instance.get_runs(dg.RunsFilter(tags={CHECK_TAG: name}))
        if any(run.status in IN_FLIGHT for run in attempts):
            return dg.SkipReason(f"the checks of {day} are under way")
        if len(attempts) >= MOST_ATTEMPTS or _is_in_hand(instance, raw, day):
            continue
        if is_open(day, calendar, now) and _rests(instance, raw, day, now):
            continue
        attempt = len(attempts) + 1
        return dg.RunRequest(
            run_key=f"{name}/{attempt}",
            partition_key=day.isoformat(),
            asset_selection=[],
            asset_check_keys=[dg.AssetCheckKey(raw, check) for check in kind.checks],
            tags={**plan_tags(feed, attempt), CHECK_TAG: name},
        )
    return dg.SkipReason("no day's rows are newer than its checks")


def unchecked_days(raw: Mapping[date, int], checked: Mapping[date, int]) -> list[date]:
    """Return days whose latest rows are newer than the last event of their checks, oldest first.

    Args:
        raw: For each day the number of the event that reported its latest rows.
        checked: For each day the number of the last event of its checks.
    """
    return sorted(day for day, version in raw.items() if checked.get(day, 0) < version)


def _checked_versions(instance: dg.DagsterInstance, raw: dg.AssetKey) -> dict[date, int]:
    # One check stands for all: they are one op.
    key = dg.AssetCheckKey(raw, OFFSETS_RECONCILE)
    infos = instance.event_log_storage.get_asset_check_partition_info([key])
    return {day_of(each.partition_key): each.latest_check_event_storage_id for each in infos if each.partition_key}


def _is_in_hand(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date) -> bool:
    """Say whether the run that reported a day's latest rows is still under way, its checks to come."""
    latest = latest_record(instance, raw, day)
    run = None if latest is None else instance.get_run_by_id(latest.run_id)
    return run is not None and run.status in IN_FLIGHT


def _rests(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date, now: datetime) -> bool:
    checked = last_checked(instance, raw, day)
    return checked is not None and abs(now - checked) < rest_of(rows_reported(instance, raw, day))
