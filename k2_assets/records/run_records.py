"""Reads from Dagster's records the runs of a feed that are in flight or failed, with their days and offset ranges."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TypeVar

import dagster as dg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG, RUN_KEY_TAG

from k2_assets.names import build_job_name, ingest_job_name, ingest_op_name
from k2_assets.records import ingest_runs
from k2_assets.records.ingest_runs import attempt_of, carried_by, ended, latest_failed, number_in
from k2_assets.records.partitions import sessions_of
from k2_assets.records.run_scope import tagged_days
from k2_assets.records.run_tags import ATTEMPT_TAG, FEED_TAG, VERSION_TAG
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.plans.build_plan import BuildPlan, FailedBuild
from k2_market.plans.failed_runs import FailedRun
from k2_market.plans.ingest_plan import IngestPlan

_Plan = TypeVar("_Plan", IngestPlan, BuildPlan)

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def ingests_in_flight(instance: dg.DagsterInstance, feed: Feed, kind: RawKind) -> Sequence[dg.DagsterRun]:
    """List the ingest runs of a feed's kind that are queued or under way."""
    # Asked for by status alone: by job, Dagster's database would go through all runs that the job ever had.
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
    return [run for run in runs if run.job_name == ingest_job_name(feed.name, kind)]


def failed_ingests(instance: dg.DagsterInstance, feed: Feed, kind: RawKind, now: datetime) -> tuple[FailedRun, ...]:
    """List the latest failed ingest runs of a feed's kind."""
    return ingest_runs.failed_ingests(instance, feed.name, kind, now)


def carried(run: dg.DagsterRun, feed: Feed, kind: RawKind) -> RangeSet:
    """Return the offset ranges that an ingest run was given."""
    return carried_by(run, ingest_op_name(feed.name, kind))


def builds_in_flight(instance: dg.DagsterInstance, feed: Feed, kind: RawKind) -> frozenset[date]:
    """Return days that queued or running runs will build to the last table: build runs, backfills from the UI.

    A run makes whole sessions, whatever days of theirs it names.
    """
    calendar = TradingCalendar.of(feed)
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
    named = (day for run in runs if _builds_all_of(feed, kind, run) for day in tagged_days(run.tags))
    return frozenset(day for each in sessions_of(calendar, named) for day in calendar.dates_reported_with(each))


def failed_builds(instance: dg.DagsterInstance, feed: Feed, kind: RawKind, now: datetime) -> tuple[FailedBuild, ...]:
    """Return the latest failed build runs of a feed that a plan had requested."""
    records = latest_failed(instance, build_job_name(feed.name, kind), now)
    return tuple(
        FailedBuild(
            days=frozenset(tagged_days(record.dagster_run.tags)),
            attempt=attempt_of(record.dagster_run),
            ended=ended(record),
            raw_version=version,
        )
        for record in records
        if (version := number_in(record.dagster_run, VERSION_TAG)) is not None
    )


def not_run_yet(wanted: _Plan, instance: dg.DagsterInstance) -> _Plan | None:
    """Return the plan under a run key that no run has had; None while a run of the same plan is under way.

    Dagster starts nothing for a run key that it has seen, whatever became of that run. The same may well be pending
    after it: it succeeded and the table was dropped, to be made anew, or it failed longer ago than runs are looked at.
    """
    planned = wanted
    while runs := instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: planned.run_key}), limit=1):
        if runs[0].status in IN_FLIGHT:
            return None
        planned = replace(planned, attempt=planned.attempt + 1)
    return planned


def plan_tags(feed: Feed, attempt: int, max_seconds: int | None = None) -> dict[str, str]:
    """Make the tags of a run that a plan requests; ``max_seconds`` is given where it ends sooner than any run."""
    limit = {} if max_seconds is None else {MAX_RUNTIME_SECONDS_TAG: str(max_seconds)}
    return {FEED_TAG: feed.name, ATTEMPT_TAG: str(attempt), **limit}


def _builds_all_of(feed: Feed, kind: RawKind, run: dg.DagsterRun) -> bool:
    # A run from the UI belongs to a job without a name and says which assets it makes.
    selected = {key.path[-1] for key in run.asset_selection or () if key.path[0] == feed.name}
    return run.job_name == build_job_name(feed.name, kind) or kind.last_table in selected
