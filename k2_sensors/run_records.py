"""What Dagster's run records say about a feed's work: in flight, failed, and for which days and ranges."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import dagster as dg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG, RUN_KEY_TAG

from k2_assets.feed_family import build_job_name, ingest_job_name
from k2_assets.raw_trades import IngestConfig, claims_of
from k2_assets.run_failure import cause_of
from k2_assets.run_scope import ATTEMPT_TAG, FEED_TAG, VERSION_TAG, tagged_days
from k2_market.build_plan import BuildPlan, FailedBuild
from k2_market.failed_runs import FailedRun, Handling
from k2_market.feed import Feed
from k2_market.ingest_claims import WrongClaim
from k2_market.ingest_plan import IngestPlan
from k2_market.offset_ranges import RangeSet
from k2_market.table_schemas import DAY

_Plan = TypeVar("_Plan", IngestPlan, BuildPlan)

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_MOST_FAILED = 1_000
"""Failed runs that a plan takes into account. To find one message among millions takes some thirty of them."""

_LONGEST_NUMBER = 19

_RECENT = timedelta(days=1)
"""How long a failed run is looked at; what still fails has failed again since (``ingest_plan.LONGEST_BACKOFF``)."""


def ingest_op(feed: Feed) -> str:
    """Name of the op that makes the feed's ``raw_trades``, where its run config goes."""
    return ingest_op_of(feed.name)


def ingest_op_of(feed: str) -> str:
    """Name of that op for a feed that is known by name."""
    return f"{feed}__raw_trades"


def ingests_in_flight(instance: dg.DagsterInstance, feed: Feed) -> Sequence[dg.DagsterRun]:
    """Ingest runs of a feed that are queued or under way."""
    # Asked for by status alone: by job, Dagster's database would go through all runs that the job ever had.
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
    return [run for run in runs if run.job_name == ingest_job_name(feed)]


def failed_ingests(instance: dg.DagsterInstance, feed: Feed, now: datetime) -> tuple[FailedRun, ...]:
    """The latest failed ingest runs of a feed."""
    records = _latest_failed(instance, ingest_job_name(feed), now)
    return tuple(failed for record in records if (failed := _failed_ingest(record, feed)).ranges)


def _failed_ingest(record: dg.RunRecord, feed: Feed) -> FailedRun:
    run = record.dagster_run
    cause, named = cause_of(run)
    given, handling = _given(run, ingest_op(feed))
    return FailedRun(
        ranges=(named & given) or given,
        attempt=attempt_of(run),
        ended=_ended(record),
        cause=cause,
        handling=handling,
    )


def carried(run: dg.DagsterRun, feed: Feed) -> RangeSet:
    """The offset ranges that an ingest run was given."""
    return carried_by(run, ingest_op(feed))


def carried_by(run: dg.DagsterRun, op: str) -> RangeSet:
    """The offset ranges that an op of a run was given; none, if the run has no such op or they are no ranges."""
    return _given(run, op)[0]


def _given(run: dg.DagsterRun, op: str) -> tuple[RangeSet, Handling]:
    config: dict[str, Any] = dict(run.run_config)
    try:
        for key in ("ops", op, "config"):
            config = config.get(key, {})
        parsed = IngestConfig(**config)
        return claims_of(parsed).ranges, Handling(parsed.handling)
    except (WrongClaim, ValueError, TypeError, AttributeError):
        return RangeSet(), Handling.DECODE  # anyone may have written it: such a run fails at once, and carries nothing


def builds_in_flight(instance: dg.DagsterInstance, feed: Feed) -> frozenset[date]:
    """Days that queued or running runs will make to the last table: build runs of a feed, backfills from the UI."""
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
    return frozenset(day for run in runs if _builds_all_of(feed, run) for day in tagged_days(run.tags))


def failed_builds(instance: dg.DagsterInstance, feed: Feed, now: datetime) -> tuple[FailedBuild, ...]:
    """The latest failed build runs of a feed that a plan had requested."""
    records = _latest_failed(instance, build_job_name(feed), now)
    return tuple(
        FailedBuild(
            days=frozenset(tagged_days(record.dagster_run.tags)),
            attempt=attempt_of(record.dagster_run),
            ended=_ended(record),
            raw_version=version,
        )
        for record in records
        if (version := _number(record.dagster_run, VERSION_TAG)) is not None
    )


def last_table(feed: Feed) -> dg.AssetKey:
    """The table that a build makes last: a day that is in it is in all others."""
    return dg.AssetKey([feed.name, DAY.table])


def attempt_of(run: dg.DagsterRun) -> int:
    """Which attempt at its ranges or days a run is, counted from 1; the first, where its tag says nothing else."""
    return max(1, _number(run, ATTEMPT_TAG) or 1)


def _number(run: dg.DagsterRun, tag: str) -> int | None:
    """The whole number that a run's tag holds; None where it holds none, since whoever starts a run may write it."""
    text = run.tags.get(tag, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else None


def not_run_yet(wanted: _Plan, instance: dg.DagsterInstance) -> _Plan | None:
    """The plan under a run key that no run has had; None while a run of the same plan is under way.

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


def _builds_all_of(feed: Feed, run: dg.DagsterRun) -> bool:
    # A run from the UI belongs to a job without a name and says which assets it makes.
    return run.job_name == build_job_name(feed) or last_table(feed) in (run.asset_selection or ())


def _latest_failed(instance: dg.DagsterInstance, job_name: str, now: datetime) -> list[dg.RunRecord]:
    """A job's latest failed runs, the latest first."""
    recent = dg.RunsFilter(statuses=_FAILED, updated_after=now - _RECENT)
    records = instance.get_run_records(recent)
    return [record for record in records if record.dagster_run.job_name == job_name][:_MOST_FAILED]


def _ended(record: dg.RunRecord) -> datetime:
    ended = record.end_time if record.end_time is not None else record.update_timestamp.timestamp()
    return datetime.fromtimestamp(ended, UTC)
