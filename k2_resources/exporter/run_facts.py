"""Collects metrics of runs from Dagster's run storage.

All runs are read once, a page at a time; after that only those that changed.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES

from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source

_PAGE = 1000

_OVERLAP = timedelta(minutes=1)
"""Overlap with which changed runs are read again, since several machines stamp them by their own clocks."""


class RunFacts:
    """Follows all runs of an instance."""

    source = Source.RUNS

    def __init__(self, instance: Callable[[], dg.DagsterInstance]) -> None:
        self._instance = instance
        self._ended: dict[str, datetime] = {}
        self._totals = Figures()
        self._last: dict[tuple[str, dg.DagsterRunStatus], float] = {}
        self._read_until: datetime | None = None

    def report(self, figures: Figures) -> None:
        """Fill in the figures."""
        instance = self._instance()
        since = None if self._read_until is None else self._read_until - _OVERLAP
        ended = dg.RunsFilter(statuses=sorted(FINISHED_STATUSES, key=lambda status: status.value), updated_after=since)
        cursor = None
        while page := instance.get_run_records(ended, limit=_PAGE, cursor=cursor, ascending=True):
            cursor = page[-1].dagster_run.run_id
            for record in page:
                self._count(record)
        if self._read_until is not None:
            forgotten = self._read_until - _OVERLAP  # what changed before is not read again
            self._ended = {run_id: changed for run_id, changed in self._ended.items() if changed >= forgotten}
        figures.add(self._totals.counts())
        for (job, status), moment in self._last.items():
            if status is dg.DagsterRunStatus.SUCCESS:
                figures.gauge("k2_run_last_success_timestamp_seconds").set(moment, dagster_job=job)
            elif status is dg.DagsterRunStatus.FAILURE:
                figures.gauge("k2_run_last_failure_timestamp_seconds").set(moment, dagster_job=job)
        self._report_in_flight(instance, figures)

    def _count(self, record: dg.RunRecord) -> None:
        run = record.dagster_run
        self._read_until = max(self._read_until or record.update_timestamp, record.update_timestamp)
        if run.run_id in self._ended:
            return
        self._ended[run.run_id] = record.update_timestamp
        self._totals.counter("k2_runs_total").add(dagster_job=run.job_name, status=run.status.value.lower())
        if record.start_time is not None:
            delay = max(0.0, record.start_time - record.create_timestamp.timestamp())
            self._totals.histogram("k2_run_start_delay_seconds").observe(delay, dagster_job=run.job_name)
        if record.start_time is not None and record.end_time is not None:
            duration = max(0.0, record.end_time - record.start_time)
            self._totals.histogram("k2_run_duration_seconds").observe(duration, dagster_job=run.job_name)
        if record.end_time is not None:
            key = (run.job_name, run.status)
            self._last[key] = max(self._last.get(key, 0.0), record.end_time)

    def _report_in_flight(self, instance: dg.DagsterInstance, figures: Figures) -> None:
        unfinished = instance.get_run_records(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
        counts = Counter((record.dagster_run.job_name, record.dagster_run.status) for record in unfinished)
        for (job, status), count in counts.items():
            figures.gauge("k2_runs_in_flight").set(count, dagster_job=job, status=status.value.lower())
        queued = sum(count for (_, status), count in counts.items() if status is dg.DagsterRunStatus.QUEUED)
        figures.gauge("k2_run_queue_depth").set(queued)
