"""Notes in a failed ingest run's tags why it failed, so that the next plan knows whether a message may be at fault."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from k2_assets.run_process import PROCESS_TAG
from k2_market.errors import K2Error
from k2_market.failed_runs import Cause, OffsetsAtFault
from k2_market.offset_ranges import OffsetRange, RangeSet

FAILURE_TAG = "k2/failure"

MAX_RANGES_NAMED = 200
"""Ranges of offsets that a tag names; a run with more of them is halved like any other."""


@contextmanager
def failure_noted(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Note in the run's tags what is known of an error that the block raises."""
    try:
        yield
    except Exception as error:
        tags = failure_tags(context.run.run_id, error)
        if tags:
            context.instance.add_run_tags(context.run.run_id, tags)
        raise


def failure_tags(run_id: str, error: Exception) -> dict[str, str]:
    """Make the tags that tell of an error; none where it may be any message's fault.

    The run's id is part of them: a run that is carried out again begins with a copy of its parent's tags.
    """
    if isinstance(error, OffsetsAtFault):
        ranges = [str(each) for each in error.ranges]
        named = f"{run_id} {Cause.NAMED} {' '.join(ranges)}"
        return {FAILURE_TAG: named} if 0 < len(ranges) <= MAX_RANGES_NAMED else {}
    return {FAILURE_TAG: f"{run_id} {Cause.OUTSIDE}"} if isinstance(error, K2Error) else {}


def cause_of(run: dg.DagsterRun) -> tuple[Cause, RangeSet]:
    """Read from a run's tags why it failed, and the offsets that it named as being at fault."""
    run_id, _, noted = run.tags.get(FAILURE_TAG, "").partition(" ")
    cause, _, named = noted.partition(" ")
    if run_id == run.run_id and cause == Cause.NAMED:
        return Cause.NAMED, RangeSet.of(map(OffsetRange.parse, named.split(" ")))
    began = PROCESS_TAG in run.tags and run.status is not dg.DagsterRunStatus.CANCELED
    if not began or (run_id == run.run_id and cause == Cause.OUTSIDE):
        return Cause.OUTSIDE, RangeSet()
    return Cause.UNKNOWN, RangeSet()
