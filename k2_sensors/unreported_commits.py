"""Commits whose run died before it could report them: their days are reported here, so that they are built.

Rows and ledger are safe at the commit; what a run that is killed right after it leaves undone is telling Dagster
which days have new rows. The table's snapshots say which run made them and for which days.
"""

from datetime import date

import dagster as dg

from k2_assets.raw_trades import RAW_TRADES
from k2_market.feed import Feed
from k2_resources.raw_rewrite import REPAIR
from k2_resources.raw_view import PastCommit, RawView
from k2_sensors.run_records import IN_FLIGHT


def report_unreported(feed: Feed, raw: RawView, instance: dg.DagsterInstance) -> list[date]:
    """Report a materialization for each day that has a commit newer than its last one, by a run that has ended.

    Args:
        feed: Whose raw table it is.
        raw: The table as it is now.
        instance: Dagster's records.

    Returns:
        The days reported.
    """
    asset = dg.AssetKey([feed.name, RAW_TRADES])
    newest = {day: commit for commit in _of_runs_that_did_not_succeed(raw, instance) for day in commit.days}
    unreported = sorted(day for day, commit in newest.items() if not _is_reported(asset, day, commit, instance))
    for day in unreported:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(asset, partition=day.isoformat(), metadata={"note": _note(newest[day].run_id)})
        )
    return unreported


def _note(run_id: str) -> str:
    if run_id.startswith(REPAIR):
        return f"Reported for {run_id}, by which rows of the day were written anew."
    return f"Reported for run {run_id}, which ended after its commit and before its report."


def _of_runs_that_did_not_succeed(raw: RawView, instance: dg.DagsterInstance) -> list[PastCommit]:
    commits = raw.commits
    run_ids = sorted({each.run_id for each in commits})
    runs = instance.get_runs(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
    settled = {run.run_id for run in runs if run.status in (dg.DagsterRunStatus.SUCCESS, *IN_FLIGHT)}
    return [each for each in commits if each.run_id not in settled]


def _is_reported(asset: dg.AssetKey, day: date, commit: PastCommit, instance: dg.DagsterInstance) -> bool:
    latest = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[day.isoformat()]), limit=1
    ).records
    return bool(latest) and latest[0].timestamp >= commit.committed.timestamp()
