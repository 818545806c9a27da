"""Decides what becomes of offsets whose ingest runs fail: tried again, halved until one is left, or set aside.

A run that fails because Kafka, the registry, the catalog or the warehouse does not answer says nothing of the messages
it carried, and is made again as it was, as often as it takes. Any other failure (a process that was killed, ran out of
memory or time, or met an error that nobody foresaw) may be the fault of a single message. After
``ATTEMPTS_BEFORE_HALVING`` of them the offsets are halved, and so is the half that fails, until the run of one offset
has failed ``ATTEMPTS_ALONE`` times. That one is set aside: a run that does not decode makes it a dead letter with its
bytes; and where that run fails ``ATTEMPTS_TO_KEEP`` times, its offset alone is written down. Where a run itself names
the offsets that nothing can be done with, they are set aside after ``ATTEMPTS_BEFORE_SETTING_ASIDE``, and the others of
its run were never in question.

All of it is worked out from the failed runs of the last day and remembers nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import RangeSet, halves

FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=15)

ATTEMPTS_BEFORE_HALVING = 3
"""Chance kills a run once or twice."""

ATTEMPTS_ALONE = 5
"""Of an offset by itself, before it is set aside: a live feed's run has often but one, and chance may kill it, too."""

ATTEMPTS_TO_KEEP = 3
"""Of a run that keeps a message's bytes, before these are given up."""

ATTEMPTS_BEFORE_SETTING_ASIDE = 5
"""Of offsets that their runs name: seven and a half minutes, in which a registry may find a schema again."""

_LEAST_SECONDS = 300
_OFFSETS_A_SECOND = 5_000
"""A twentieth of what a run usually does."""


class OffsetsAtFault(K2Error):
    """Says that nothing can be done with the messages at some offsets, for a reason that has to do with them alone.

    Attributes:
        ranges: The offsets.
    """

    def __init__(self, message: str, ranges: RangeSet) -> None:
        super().__init__(message)
        self.ranges = ranges


class Cause(StrEnum):
    """Tells why a run failed, as far as that is known."""

    OUTSIDE = "outside"
    """Kafka, registry, catalog or warehouse, or a person who ended it: nothing to do with its messages."""

    UNKNOWN = "unknown"
    """Perhaps one of its messages."""

    NAMED = "named"
    """The run named the very offsets that nothing can be done with."""


class Handling(StrEnum):
    """Tells what a run does with the messages at its offsets."""

    DECODE = "decode"
    KEEP_BYTES = "keep bytes"
    """It makes them dead letters without decoding them; the ledger says that they were set aside."""

    SKIP = "skip"
    """It does not even read them; the ledger says that they were set aside."""


@dataclass(frozen=True)
class FailedRun:
    """Describes an ingest run that failed.

    Attributes:
        ranges: What it carried; or, where it named offsets, these.
        attempt: Which attempt at them it was.
        ended: When it ended.
        cause: What is known of why.
        handling: What it was to do.
    """

    ranges: RangeSet
    attempt: int
    ended: datetime
    cause: Cause = Cause.UNKNOWN
    handling: Handling = Handling.DECODE

    @property
    def rests_until(self) -> datetime:
        """Give the time from which its offsets may be tried again."""
        halved = self.cause is Cause.UNKNOWN and self.attempt > ATTEMPTS_BEFORE_HALVING
        return self.ended + (FIRST_BACKOFF if halved else backoff(self.attempt))

    def is_resting(self, now: datetime) -> bool:
        """Tell whether its offsets still rest."""
        return _within(self.rests_until - self.ended, self.ended, now)


@dataclass(frozen=True)
class Try:
    """Describes what to try next of offsets that failed.

    Attributes:
        ranges: The offsets.
        attempt: Which attempt at them this is.
        handling: What the run is to do.
        isolates: Whether it is one of the many that find a single message; these take turns with what is new.
    """

    ranges: RangeSet
    attempt: int
    handling: Handling = Handling.DECODE
    isolates: bool = False


def backoff(attempt: int) -> timedelta:
    """Give the time that offsets rest after the ``attempt``-th failure of the same run."""
    return min(FIRST_BACKOFF * (1 << min(attempt - 1, 20)), LONGEST_BACKOFF)


def is_resting(ended: datetime, attempt: int, now: datetime) -> bool:
    """Tell whether offsets that failed at ``ended``, in their ``attempt``-th attempt, still rest."""
    return _within(backoff(attempt), ended, now)


def _within(rest: timedelta, ended: datetime, now: datetime) -> bool:
    # An end that lies further ahead than any rest was written by a clock that has been set back since.
    return abs(now - ended) < rest


def suspected(failed: Iterable[FailedRun]) -> RangeSet:
    """Collect the offsets among which there may be one that makes runs fail."""
    return RangeSet.of(each for run in failed if run.cause is not Cause.OUTSIDE for each in run.ranges)


def next_try(ready: RangeSet, failed: Sequence[FailedRun]) -> Try | None:
    """Choose what to try next; None where nothing that is ready has failed.

    Args:
        ready: Offsets that may be started now.
        failed: Recent failed runs, those of offsets that rest among them.
    """
    suspects = sorted((run for run in failed if run.cause is not Cause.OUTSIDE), key=lambda run: len(run.ranges))
    for suspect in suspects:
        left = suspect.ranges & ready
        if left:
            return _next_of(suspect.ranges, left, suspects)
    others = [run for run in failed if not run.ranges.isdisjoint(ready)]
    if not others:
        return None
    # All that failed for want of something else goes again together, and alone: it can't hide among what is new.
    attempt = 1 + max(run.attempt for run in others)
    return Try(ready & RangeSet.of(each for run in others for each in run.ranges), attempt)


def _next_of(ranges: RangeSet, left: RangeSet, suspects: Sequence[FailedRun]) -> Try:
    """Choose what to try next of the offsets of a failed run, none smaller of which has failed.

    Args:
        ranges: What the run carried.
        left: Those of them that are ready.
        suspects: All failed runs but those that failed for want of something else.
    """
    alike = [run for run in suspects if run.ranges == ranges]
    last = max(alike, key=lambda run: run.attempt)
    attempts = max(run.attempt for run in suspects if not run.ranges.isdisjoint(left))
    attempt = attempts + 1
    if attempts < ATTEMPTS_BEFORE_HALVING:
        return Try(left, attempt)
    if last.cause is Cause.NAMED:
        # Counted, and not taken from a run's number: whoever starts a run may give it any.
        named = sum(run.cause is Cause.NAMED and not run.ranges.isdisjoint(left) for run in suspects)
        aside = named >= ATTEMPTS_BEFORE_SETTING_ASIDE
    elif len(ranges) > 1:
        first, second = (left & half for half in halves(ranges))
        return Try(first or second, attempt, isolates=True)
    else:
        aside = sum(run.handling is Handling.DECODE for run in alike) >= ATTEMPTS_ALONE
    if not aside:
        return Try(left, attempt, isolates=True)
    kept_in_vain = sum(run.handling is Handling.KEEP_BYTES for run in alike) >= ATTEMPTS_TO_KEEP
    return Try(left, attempt, Handling.SKIP if kept_in_vain else Handling.KEEP_BYTES, isolates=True)


def seconds_for(ranges: RangeSet) -> int:
    """Give the seconds that a run may take which finds a message among some offsets, or sets it aside.

    One that hangs would otherwise hold its feed's pool for an hour at each step.
    """
    return _LEAST_SECONDS + len(ranges) // _OFFSETS_A_SECOND
