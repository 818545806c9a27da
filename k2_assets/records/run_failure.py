"""Notes in an ingest run's tags why it failed, so that the next plan knows whether a message may be at fault.

A run that has looked up what it was told notes that it begins with its messages: whatever ends it from there on may be
the fault of one of them. A run that ended before says nothing of any message, whatever tags it was started with.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from k2_assets.records.run_tags import FAILURE_TAG, value_of
from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.plans.failed_runs import Cause, OffsetsAtFault

MAX_RANGES_NAMED = 200
"""Ranges of offsets that a tag names; a run with more of them is halved like any other."""


@contextmanager
def failure_noted(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Note in the run's tags that it works on its messages, and what is known of an error that the block raises."""
    run_id = context.run.run_id
    context.instance.add_run_tags(run_id, begun_tags(run_id))
    try:
        yield
    except Exception as error:
        tags = failure_tags(run_id, error)
        if tags:
            context.instance.add_run_tags(run_id, tags)
        raise


def begun_tags(run_id: str) -> dict[str, str]:
    """Make the tags of a run that works on its messages; they hold for as long as nothing else is known."""
    return {FAILURE_TAG: f"{run_id} {Cause.UNKNOWN}"}


def failure_tags(run_id: str, error: Exception) -> dict[str, str]:
    """Make the tags that record an error; none where any message may be at fault.

    The run's id is part of them: a run that is carried out again begins with a copy of its parent's tags.
    """
    if isinstance(error, OffsetsAtFault):
        ranges = [str(each) for each in error.ranges]
        named = f"{run_id} {Cause.NAMED} {' '.join(ranges)}"
        return {FAILURE_TAG: named} if 0 < len(ranges) <= MAX_RANGES_NAMED else {}
    return {FAILURE_TAG: f"{run_id} {Cause.OUTSIDE}"} if isinstance(error, K2Error) else {}


def cause_of(run: dg.DagsterRun) -> tuple[Cause, RangeSet]:
    """Read from a run's tags why it failed, and the offsets that it named as being at fault."""
    run_id, _, noted = (value_of(run.tags, FAILURE_TAG) or "").partition(" ")
    cause, _, named = noted.partition(" ")
    if run_id != run.run_id or run.status is dg.DagsterRunStatus.CANCELED or cause == Cause.OUTSIDE:
        return Cause.OUTSIDE, RangeSet()
    if cause == Cause.NAMED:
        return Cause.NAMED, RangeSet.of(map(OffsetRange.parse, named.split(" ")))
    return Cause.UNKNOWN, RangeSet()
