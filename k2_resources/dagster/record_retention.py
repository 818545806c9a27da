"""Removes Dagster's records of runs that ended long ago (#057): the run, its events, its captured output.

Kept whatever their age are runs under way, and the runs that made or checked a day last: the UI reads them, and so do
the checks that hold a day against others.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

MOST_RUNS = 5_000
"""Most runs that are removed at a time; a longer backlog is left to the next maintenance."""

_PAGE = 500


def remove_old_runs(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], before: datetime) -> int:
    """Remove the records of runs that ended before an instant and made or checked no day last.

    Args:
        instance: Dagster's records.
        checks: All checks whose evaluations are kept.
        before: Runs whose last change is earlier are old.

    Returns:
        How many were removed.
    """
    old = list(_ended_runs(instance, before))
    if not old:
        return 0
    needed = {*_last_to_check(instance, checks), *_last_to_make(instance, instance.get_asset_keys(), before)}
    removed = [run_id for run_id in old if run_id not in needed][:MOST_RUNS]
    for run_id in removed:
        instance.delete_run(run_id)
        with suppress(NotImplementedError):  # output that is kept elsewhere has a retention of its own
            instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(removed)


def _ended_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    """Give the ids of old runs, oldest first."""
    ended = dg.RunsFilter(statuses=sorted(FINISHED_STATUSES, key=lambda status: status.value), created_before=before)
    cursor = None
    while page := instance.get_run_records(ended, limit=_PAGE, ascending=True, cursor=cursor):
        cursor = page[-1].dagster_run.run_id
        yield from (each.dagster_run.run_id for each in page if each.update_timestamp < before)


def _last_to_check(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> Iterator[str]:
    for info in instance.event_log_storage.get_asset_check_partition_info(checks):
        yield info.latest_planned_run_id


def _last_to_make(instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey], before: datetime) -> Iterator[str]:
    """Give the runs whose materialization of a day is its last, as far as they are old."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for asset in assets:
        latest = sorted(instance.event_log_storage.get_latest_storage_id_by_partition(asset, kind).values())
        for start in range(0, len(latest), _PAGE):
            ids = latest[start : start + _PAGE]
            found = dg.AssetRecordsFilter(asset, storage_ids=ids, before_timestamp=before.timestamp())
            yield from (record.run_id for record in instance.fetch_materializations(found, limit=_PAGE).records)
