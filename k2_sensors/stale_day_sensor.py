"""Defines the stale-day sensor: rebuilds closed days whose raw rows are newer than their trades.

Late trades come in by the Kafka sensor like any others; the version of their day's raw rows is then newer than the one
that its bars were made from, and this sensor requests that day again. What it goes by stands in the tables.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from k2_assets.feed_family import FeedFamily
from k2_assets.records.partitions import day_of
from k2_assets.records.run_records import builds_in_flight, failed_builds, ingests_in_flight, not_run_yet, plan_tags
from k2_assets.records.run_scope import VERSION_TAG, days_tag, tagged_days
from k2_assets.schedules import builds_of_last
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.plans.build_plan import BuildFacts, BuildPlan, plan_builds
from k2_market.plans.day_builds import stale_days
from k2_market.quality.ledger_checks import LEDGER_CHECKS
from k2_resources.dagster.iceberg_resource import IcebergCatalogResource

INTERVAL_SECONDS = 15
_FEW_DAYS = 500
"""So many days are asked about one by one; a query takes no more of them than its database allows."""


def stale_day_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """The sensor that keeps a feed's closed days built."""

    @dg.sensor(
        name=f"{family.name}_stale_day_sensor",
        job=family.build_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests trades and bars of closed days whose raw rows are newer: backlogs and late trades.",
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
    """The run that carries out a build plan."""
    return dg.RunRequest(
        run_key=planned.run_key,
        partition_key=planned.days[0].isoformat(),
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
        blocked=blocked_days(instance, dg.AssetKey([feed.name, kind.raw_table]), stale_days(versions, builds)),
        building=building,
        ingesting_from=min(ingesting, default=None),
        failed=failed_builds(instance, feed, kind, now),
        now=now,
    )


def blocked_days(
    instance: dg.DagsterInstance, asset: dg.AssetKey, among: Collection[date] | None = None
) -> frozenset[date]:
    """Days whose latest result of a blocking check is a failure, and not merely a warning.

    Args:
        instance: Dagster's records.
        asset: Whose checks.
        among: The days that are asked about; all unless given. Few are answered sooner than all.
    """
    if among is not None and not among:
        return frozenset()
    keys = [dg.AssetCheckKey(asset, name) for name in LEDGER_CHECKS]
    few = None if among is None or len(among) > _FEW_DAYS else [day.isoformat() for day in among]
    not_passed = {
        (info.check_key, info.partition_key)
        for info in instance.event_log_storage.get_asset_check_partition_info(keys, partition_keys=few)
        if info.partition_key is not None and info.latest_execution_status is AssetCheckExecutionRecordStatus.FAILED
    }
    return frozenset(day_of(day) for key, day in not_passed if _is_error(instance, key, day))


def _is_error(instance: dg.DagsterInstance, key: dg.AssetCheckKey, day: str) -> bool:
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key], PartitionKeyFilter(key=day))[key]
    event = None if record.event is None else record.event.dagster_event
    return event is None or event.asset_check_evaluation_data.severity is dg.AssetCheckSeverity.ERROR
