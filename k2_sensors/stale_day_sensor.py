"""Defines the stale-day sensor: rebuilds closed days whose raw rows are newer than their trades.

Late trades come in by the Kafka sensor like any others; the version of their day's raw rows is then newer than the one
that its bars were made from, and this sensor requests that day again. What it goes by stands in the tables.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from k2_assets.feed_family import FeedFamily
from k2_assets.records.check_history import latest_of_sessions
from k2_assets.records.partitions import sessions_of
from k2_assets.records.run_records import builds_in_flight, failed_builds, ingests_in_flight, not_run_yet, plan_tags
from k2_assets.records.run_scope import days_tag, tagged_days
from k2_assets.records.run_tags import VERSION_TAG
from k2_assets.schedules import builds_of_last
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.plans.build_plan import BuildFacts, BuildPlan, plan_builds
from k2_market.plans.day_builds import stale_days
from k2_market.quality.ledger_checks import LEDGER_CHECKS
from k2_resources.dagster.resources import IcebergCatalogResource

INTERVAL_SECONDS = 15
_FEW_DAYS = 500
"""So many days are asked about one by one; a query takes no more of them than its database allows."""


def stale_day_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """Return the sensor that keeps a feed's closed days built."""

    @dg.sensor(
        name=f"{family.name}_stale_day_sensor",
        job=family.build_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts builds of trades and bars for closed sessions whose raw rows are newer than their bars: "
        "after a backlog was loaded, or when trades came late.",
    )
    def sensor(context: dg.SensorEvaluationContext, iceberg: IcebergCatalogResource) -> dg.RunRequest | dg.SkipReason:
        return next_build(family.feed, family.kind, iceberg, context.instance, datetime.now(UTC))

    return sensor


def next_build(
    feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, instance: dg.DagsterInstance, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """Request the next build, or say why none; arguments as for ``build_facts``."""
    facts = build_facts(feed, kind, iceberg, instance, now)
    wanted = plan_builds(facts, TradingCalendar.of(feed))
    planned = None if wanted is None else not_run_yet(wanted, instance)
    if planned is None:
        return dg.SkipReason("no closed day is behind its raw rows" if not facts.building else "builds are under way")
    return build_request(feed, planned)


def build_request(feed: Feed, planned: BuildPlan) -> dg.RunRequest:
    """Return the run that carries out a build plan."""
    return dg.RunRequest(
        run_key=planned.run_key,
        partition_key=TradingCalendar.of(feed).reporting_session(planned.days[0]).isoformat(),
        tags={**plan_tags(feed, planned.attempt), **days_tag(planned.days), VERSION_TAG: str(planned.version)},
    )


def build_facts(
    feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, instance: dg.DagsterInstance, now: datetime
) -> BuildFacts:
    """Gather what a feed's builds are planned by.

    Args:
        feed: Whose days.
        kind: Of which rows.
        iceberg: Has the tables, which say how new each day's rows are and what was built from them.
        instance: Dagster's records, which say what is under way, failed, or blocked by a check.
        now: The time.
    """
    # Runs before tables: a run that ends in between has left its rows by the time they are looked at.
    ingesting = [day for run in ingests_in_flight(instance, feed, kind) for day in tagged_days(run.tags)]
    building = builds_in_flight(instance, feed, kind)
    versions = iceberg.raw_table(feed.name, kind).view().day_versions
    builds = builds_of_last(feed, kind, iceberg)
    return BuildFacts(
        versions=versions,
        builds=builds,
        blocked=blocked_days(instance, feed, kind, stale_days(versions, builds)),
        building=building,
        ingesting_from=min(ingesting, default=None),
        failed=failed_builds(instance, feed, kind, now),
        now=now,
    )


def blocked_days(
    instance: dg.DagsterInstance, feed: Feed, kind: RawKind, among: Collection[date] | None = None
) -> frozenset[date]:
    """Return days of whose session the latest result of a blocking check is a failure, and not merely a warning.

    Args:
        instance: Dagster's records.
        feed: Whose raw rows were checked.
        kind: The kind of those rows.
        among: The days that are asked about; all days of blocked sessions unless given. Few are answered sooner.
    """
    if among is not None and not among:
        return frozenset()
    asset, calendar = dg.AssetKey([feed.name, kind.raw_table]), TradingCalendar.of(feed)
    keys = [dg.AssetCheckKey(asset, name) for name in LEDGER_CHECKS]
    asked = None if among is None else _dates_of_sessions(calendar, among)
    few = None if asked is None or len(asked) > _FEW_DAYS else [day.isoformat() for day in asked]
    infos = instance.event_log_storage.get_asset_check_partition_info(keys, partition_keys=few)
    sessions = {
        session
        for (check, session), info in latest_of_sessions(infos, calendar).items()
        if info.latest_execution_status is AssetCheckExecutionRecordStatus.FAILED
        and _is_error(instance, check, str(info.partition_key))
    }
    days = _dates_of_sessions(calendar, sessions) if among is None else among
    return frozenset(day for day in days if calendar.reporting_session(day) in sessions)


def _dates_of_sessions(calendar: TradingCalendar, days: Iterable[date]) -> list[date]:
    return [day for session in sessions_of(calendar, days) for day in calendar.dates_reported_with(session)]


def _is_error(instance: dg.DagsterInstance, key: dg.AssetCheckKey, day: str) -> bool:
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key], PartitionKeyFilter(key=day))[key]
    event = None if record.event is None else record.event.dagster_event
    return event is None or event.asset_check_evaluation_data.severity is dg.AssetCheckSeverity.ERROR
