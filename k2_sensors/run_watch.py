"""Defines the run watch: ends runs whose process is gone, so that their offset ranges become pending again.

The code server notices at once that a run's process ended, as long as it lives itself; Dagster's run monitoring
notices runs that do not start, as long as the daemon lives. This watch needs neither: it looks at the run's process.
Every run of ours writes its process into its tags when its first step begins.
"""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import psutil
from dagster._core.storage.tags import GRPC_INFO_TAG

from k2_assets.records.run_process import RunProcess
from k2_assets.records.run_tags import PROCESS_TAG, value_of

INTERVAL_SECONDS = 15

UNSIGNED_FOR = timedelta(minutes=1)
"""A run that began so long ago has signed, unless it only checks or was killed before its first step."""

_UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def end_dead_runs(instance: dg.DagsterInstance, now: datetime | None = None) -> list[str]:
    """Mark as failed, or as canceled if that was asked for, every run that is certainly dead.

    Args:
        instance: Has the runs.
        now: The time, if not the clock's.

    Returns:
        The runs' ids.
    """
    ended: list[str] = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run = record.dagster_run
        reason = _why_dead(instance, record, now or datetime.now(UTC))
        if reason is None:
            continue
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, reason)
        else:
            instance.report_run_failed(run, reason)
        ended.append(run.run_id)
    return ended


@dg.sensor(
    name="run_watch_sensor",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process was killed, so that their ranges and days are planned again.",
)
def run_watch_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look once for dead runs."""
    ended = end_dead_runs(context.instance)
    return dg.SkipReason(f"ended {len(ended)} dead runs: {', '.join(ended)}" if ended else "no dead runs")


def _why_dead(instance: dg.DagsterInstance, record: dg.RunRecord, now: datetime) -> str | None:
    """Tell why a run is certainly dead, or None."""
    run = record.dagster_run
    tag = _signature(instance, run)
    if tag is not None:
        gone = RunProcess.parse(tag).is_gone()
        return f"The run's process is gone: {tag}. It was killed or its machine stopped." if gone else None
    unchanged = now - record.update_timestamp
    begun = _begun(instance, run)
    if begun is None:
        # Nobody's process, and no host: whoever was to start it was killed before, or its process before it began.
        limit = timedelta(seconds=instance.run_monitoring_start_timeout_seconds)
        return f"The run did not start within {limit.seconds} s." if limit and unchanged >= limit else None
    pid, when = begun
    if unchanged < UNSIGNED_FOR or not _is_of_this_host(run) or _runs_since(pid, when):
        return None
    return f"The run's process is gone: {pid}, which had not come to the run's first step."


def _signature(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Return the process in a run's tags; a run that is carried out again begins with its parent's, copied."""
    tag = value_of(run.tags, PROCESS_TAG)
    if tag is None or not _names_a_process(tag):
        return None
    parent = None if run.parent_run_id is None else instance.get_run_by_id(run.parent_run_id)
    return None if parent is not None and value_of(parent.tags, PROCESS_TAG) == tag else tag


def _names_a_process(tag: str) -> bool:
    """Say whether a tag names a process; anyone may write tags."""
    try:
        RunProcess.parse(tag)
    except ValueError:
        return False
    return True


def _begun(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Return the number of the process in which a run began, and when; None for a run that has not begun."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_START).records
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.pid is not None:
            return event.pid, record.timestamp
    return None


def _is_of_this_host(run: dg.DagsterRun) -> bool:
    """Say whether a run was started over loopback, or by the process that asked for it; those sign at once."""
    server = run.tags.get(GRPC_INFO_TAG)
    return server is None or json.loads(server).get("host") in _LOOPBACK


def _runs_since(pid: int, when: float) -> bool:
    """Say whether a process runs that was there at a moment, and not a later one with the same number."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= when and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
