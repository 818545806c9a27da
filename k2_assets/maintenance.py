"""Defines the ``maintenance`` asset: compaction, day-end tags and cleaning of tables, daily after the close."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from k2_assets.asset_facts import feed_tags, owners_of
from k2_assets.checks import check_keys
from k2_assets.names import family_name, maintenance_asset_name
from k2_assets.records.partitions import day_of
from k2_assets.records.run_process import record_process
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.shipped import KINDS
from k2_market.plans.orphan_files import bytes_of
from k2_resources.dagster.record_retention import remove_old_runs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.logs.structured_logging import correlation
from k2_resources.maintenance.feed_maintenance import FeedMaintenance, MaintenanceResult
from k2_resources.settings import Settings


def maintenance_asset(feed: Feed, kind: RawKind, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Make the asset that stands for a feed's maintenance: a partition is what was done after that day's close."""

    @dg.asset(
        key=dg.AssetKey([feed.name, maintenance_asset_name(kind)]),
        partitions_def=days,
        owners=owners_of(feed),
        tags=feed_tags(feed),
        pool=f"{family_name(feed.name, kind)}_maintenance",
        group_name=f"{family_name(feed.name, kind)}_maintenance",
        kinds={"iceberg"},
        description="Upkeep of the feed's tables after a session's close: small files are put together, the state is "
        "tagged with the session, files that no table refers to and records of old runs are removed.",
    )
    def maintenance(context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource) -> dg.MaterializeResult[None]:
        record_process(context)
        day = day_of(context.partition_key)
        with correlation(context.run.run_id):
            done = FeedMaintenance(iceberg.catalog(), feed, kind, lambda: datetime.now(UTC)).carry_out(day)
            runs = remove_runs_past_retention(context.instance, Settings.load(), datetime.now(UTC))
        return dg.MaterializeResult(metadata={**maintenance_metadata(done), "runs_removed": runs})

    return maintenance


def remove_runs_past_retention(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> int:
    """Remove Dagster's records of runs of any feed that are older than the settings keep them; gives how many."""
    if settings.keep_runs_days == 0:
        return 0
    feeds = sorted({key.path[0] for key in instance.get_asset_keys()})
    checks = [check for feed in feeds for check in check_keys(feed, KINDS)]
    return remove_old_runs(instance, checks, now - timedelta(days=settings.keep_runs_days))


def maintenance_metadata(done: MaintenanceResult) -> dict[str, Any]:
    """``maintenance_figures`` as Dagster shows them."""
    return {
        name: dg.MetadataValue.json(value) if isinstance(value, dict) else value
        for name, value in maintenance_figures(done).items()
    }


def maintenance_figures(done: MaintenanceResult) -> dict[str, Any]:
    """Tell what a maintenance did to the raw table's files, to tags, and to files that nothing referred to.

    Keys: ``files_before`` and ``files_after``, the same of ``bytes``, ``manifests`` and ``snapshots``;
    ``compacted_days``, ``files_replaced``, ``files_written``, ``rows_rewritten``, ``compaction_commits``,
    ``file_groups_left``; ``properties_set`` by table, of tables of an earlier version;
    ``tags_set`` and ``tags_removed`` by table; of all tables ``files_removed``, ``bytes_removed``,
    ``metadata_files_removed`` among them, and ``files_resting`` until a later maintenance.
    """
    compacted: set[date] = {day for each in done.compactions for day in each.days}
    removed = [file for sweep in done.swept.values() for file in sweep.deletable]
    return {
        "files_before": done.before.files,
        "files_after": done.after.files,
        "bytes_before": done.before.bytes,
        "bytes_after": done.after.bytes,
        "manifests_before": done.before.manifests,
        "manifests_after": done.after.manifests,
        "snapshots_before": done.before.snapshots,
        "snapshots_after": done.after.snapshots,
        "compacted_days": len(compacted),
        "files_replaced": sum(each.replaced for each in done.compactions),
        "files_written": sum(each.written for each in done.compactions),
        "rows_rewritten": sum(each.rows for each in done.compactions),
        "compaction_commits": len(done.compactions),
        "file_groups_left": done.compactions[-1].groups_left if done.compactions else 0,
        "properties_set": done.properties,
        "tags_set": {name: plan.added for name, plan in done.tags.items() if plan.added},
        "tags_removed": {name: list(plan.removed) for name, plan in done.tags.items() if plan.removed},
        "files_removed": len(removed),
        "bytes_removed": bytes_of(removed),
        "metadata_files_removed": sum(file.path.startswith("metadata/") for file in removed),
        "files_resting": sum(len(sweep.resting) for sweep in done.swept.values()),
    }
