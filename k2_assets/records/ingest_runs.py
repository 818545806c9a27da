"""Reads from Dagster's records the config of a feed's ingest runs, and which of them failed."""

from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

import dagster as dg

from k2_assets.names import ingest_job_name, ingest_op_name
from k2_assets.records.ingest_config import IngestConfig, claims_of
from k2_assets.records.run_failure import cause_of
from k2_assets.records.run_tags import ATTEMPT_TAG, value_of
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.plans.failed_runs import FailedRun
from k2_market.plans.ingest_claims import IngestClaims, WrongClaim

FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

_MOST_FAILED = 1_000
"""Failed runs that a plan takes into account. To find one message among millions takes some thirty of them."""

_LONGEST_NUMBER = 19

_RECENT = timedelta(days=1)
"""Age up to which failed runs count; offsets that still fail have failed again since (``LONGEST_BACKOFF``)."""


def failed_ingests(instance: dg.DagsterInstance, feed: str, kind: RawKind, now: datetime) -> tuple[FailedRun, ...]:
    """List the latest failed ingest runs of a feed's kind, the latest first."""
    records = latest_failed(instance, ingest_job_name(feed, kind), now)
    return tuple(failed for record in records if (failed := _failed_ingest(record, ingest_op_name(feed, kind))).ranges)


def _failed_ingest(record: dg.RunRecord, op: str) -> FailedRun:
    run = record.dagster_run
    cause, named = cause_of(run)
    given = claims_told(run, op)
    return FailedRun(
        ranges=(named & given.ranges) or given.ranges,
        attempt=attempt_of(run),
        ended=ended(record),
        cause=cause,
        handling=given.handling,
    )


def carried_by(run: dg.DagsterRun, op: str) -> RangeSet:
    """Give the offset ranges that an op of a run was given; none, if the run has no such op or they are no ranges."""
    return claims_told(run, op).ranges


def carried_in_all(run: dg.DagsterRun) -> RangeSet:
    """Give the offset ranges that a run was given, whichever of its ops they are for."""
    ops = dict(run.run_config).get("ops")
    names = ops if isinstance(ops, dict) else ()
    return reduce(or_, (carried_by(run, str(name)) for name in names), RangeSet())


def claims_told(run: dg.DagsterRun, op: str) -> IngestClaims:
    """Read the claims in an op's config; none, if the run has no such op or its config can't be read."""
    config: dict[str, Any] = dict(run.run_config)
    try:
        for key in ("ops", op, "config"):
            config = config.get(key, {})
        return claims_of(IngestConfig(**config))
    except (WrongClaim, ValueError, TypeError, AttributeError):
        return IngestClaims("")  # anyone may have written it: such a run fails at once, and carries nothing


def latest_failed(instance: dg.DagsterInstance, job_name: str, now: datetime) -> list[dg.RunRecord]:
    """List a job's latest failed runs, the latest first."""
    records = instance.get_run_records(dg.RunsFilter(statuses=FAILED, updated_after=now - _RECENT))
    return [record for record in records if record.dagster_run.job_name == job_name][:_MOST_FAILED]


def ended(record: dg.RunRecord) -> datetime:
    """Give the time at which a run ended."""
    seconds = record.end_time if record.end_time is not None else record.update_timestamp.timestamp()
    return datetime.fromtimestamp(seconds, UTC)


def attempt_of(run: dg.DagsterRun) -> int:
    """Give which attempt at its ranges or days a run is, from 1; the first, where its tag says nothing else."""
    return max(1, number_in(run, ATTEMPT_TAG) or 1)


def number_in(run: dg.DagsterRun, tag: str) -> int | None:
    """Give the whole number that a run's tag holds; None where it holds none, since anyone may write tags."""
    text = value_of(run.tags, tag) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else None
