"""Plans ingestion: the offset ranges that a feed's Kafka sensor requests next, from facts alone.

Pending is what the topic holds, less what the ledger has, less what runs in flight carry. A backlog is cut where
a trading day ends, after as many of them as one run can take.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_market.plans.failed_runs import (
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    FailedRun,
    Handling,
    backoff,
    is_resting,
    next_try,
    seconds_for,
    suspected,
)
from k2_market.plans.ingest_claims import halted

__all__ = [
    "ALERT_ATTEMPTS",
    "FIRST_BACKOFF",
    "LONGEST_BACKOFF",
    "MAX_MESSAGES_PER_RUN",
    "MAX_RUNS_IN_FLIGHT",
    "FailedRun",
    "Handling",
    "IngestFacts",
    "IngestPlan",
    "Waiting",
    "backoff",
    "first_day",
    "is_resting",
    "limited",
    "pending_or_waiting",
    "plan",
    "recording",
    "up_to",
    "whole_days",
]

MAX_MESSAGES_PER_RUN = 4_000_000
"""Some seconds of reading, beside which the start of a run counts little. More would keep the feed's pool, and the days
that are to be built, waiting for longer; memory does not depend on it."""

MAX_RUNS_IN_FLIGHT = 2
"""One that runs and one that waits; a third would only queue."""

ALERT_ATTEMPTS = 5
"""Attempts after which a range counts as stuck."""


@dataclass(frozen=True)
class IngestFacts:
    """All that the plan depends on.

    Attributes:
        topic: The topic's log now.
        ledger: The raw table's ledger.
        in_flight: What each run that is queued or under way carries.
        failed: Recent failed runs.
        now: The time.
    """

    topic: TopicState
    ledger: Ledger
    in_flight: tuple[RangeSet, ...]
    failed: tuple[FailedRun, ...]
    now: datetime

    @property
    def pending(self) -> RangeSet:
        """Give the offsets that can be read, are not in the ledger and are carried by no run."""
        claimed = RangeSet.of(each for ranges in self.in_flight for each in ranges)
        return self.topic.readable - self.ledger.settled - claimed

    @property
    def lost(self) -> RangeSet:
        """Offsets that retention removed before they were read: gone, to be recorded and alerted."""
        return self.topic.removed - self.ledger.settled

    @property
    def truncated(self) -> RangeSet:
        """Offsets in the ledger that the topic's log does not reach: the broker lost what it had acknowledged."""
        return self.topic.unreached(self.ledger.covered)

    @property
    def unrecorded(self) -> bool:
        """Say whether a loss or a truncation is known that the ledger does not record yet."""
        return bool(self.lost - self.ledger.lost or self.truncated - self.ledger.truncated)


@dataclass(frozen=True)
class Waiting:
    """Nothing is to be started now, and why."""

    reason: str


@dataclass(frozen=True)
class IngestPlan:
    """A run to request: exactly these ranges, under a key that names them and the attempt.

    Attributes:
        ranges: The offsets; a run may have none and only record.
        attempt: Which attempt at them this is, from 1.
        lost: Offsets that retention removed, to be recorded beside.
        truncated: Offsets of the ledger that the log does not reach any more, likewise.
        handling: What is to be done with the messages.
        isolates: Whether it is to find a message that makes runs fail, or to set it aside: it reads carefully, and has
            ``max_seconds``.
    """

    ranges: RangeSet
    attempt: int
    lost: RangeSet = field(default_factory=RangeSet)
    truncated: RangeSet = field(default_factory=RangeSet)
    handling: Handling = Handling.DECODE
    isolates: bool = False

    @property
    def max_seconds(self) -> int | None:
        """After how long the run is to be ended; None for as long as any run may take."""
        return seconds_for(self.ranges) if self.isolates else None

    @property
    def run_key(self) -> str:
        """Digest of ranges and attempt: the same plan made twice is one run, a new attempt is another."""
        told = () if self.ranges else (*self.lost, "truncated", *self.truncated)
        text = " ".join(map(str, (*self.ranges, *told)))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:24]}-{self.attempt}"


def recording(facts: IngestFacts) -> IngestPlan | None:
    """Return a run that only records what the broker lost; None where a run with pending offsets can record it."""
    if facts.in_flight or not facts.unrecorded:
        return None
    if facts.truncated or not facts.pending:
        return IngestPlan(RangeSet(), 1, facts.lost, facts.truncated)
    return None


def pending_or_waiting(facts: IngestFacts) -> RangeSet | Waiting:
    """Return the ranges that may be started now, before cutting; or why none may."""
    truncated = facts.truncated | facts.ledger.truncated.of_topic(facts.topic.topic_id)
    if truncated:
        return Waiting(halted(facts.topic.name, truncated))
    if len(facts.in_flight) >= MAX_RUNS_IN_FLIGHT:
        return Waiting(f"{len(facts.in_flight)} ingest runs are in flight")
    pending = facts.pending
    if not pending:
        return Waiting(f"nothing pending in {facts.topic.name}")
    ready = pending - RangeSet.of(each for run in facts.failed if run.is_resting(facts.now) for each in run.ranges)
    if not ready:
        until = min(run.rests_until for run in facts.failed if not run.ranges.isdisjoint(pending))
        return Waiting(f"{len(pending)} messages wait for another attempt after {until:%H:%M:%S} UTC")
    return ready


def plan(facts: IngestFacts, ready: RangeSet, day_ends: Mapping[int, int] | None = None) -> IngestPlan:
    """Return the run that takes what is ready, or the first part of it.

    Args:
        facts: What ``ready`` came from.
        ready: Ranges that may be started, not empty.
        day_ends: For each partition the offset where a backlog is to be cut, where known (``whole_days``).
    """
    tried = next_try(ready, facts.failed)
    new = ready - RangeSet.of(each for run in facts.failed for each in run.ranges)
    suspects = suspected(facts.failed)
    others_wait = new and not any(ranges.isdisjoint(suspects) for ranges in facts.in_flight)
    if tried is None or (tried.isolates and others_wait):
        return IngestPlan(_first_part(new, day_ends), 1, facts.lost)
    if tried.isolates:
        return IngestPlan(tried.ranges, tried.attempt, facts.lost, RangeSet(), tried.handling, isolates=True)
    return IngestPlan(_first_part(tried.ranges, day_ends), tried.attempt, facts.lost)


def _first_part(ready: RangeSet, day_ends: Mapping[int, int] | None) -> RangeSet:
    """Take so much of some ranges as one run takes."""
    return ready if len(ready) <= MAX_MESSAGES_PER_RUN else limited(up_to(ready, day_ends or {}), MAX_MESSAGES_PER_RUN)


def up_to(ranges: RangeSet, ends: Mapping[int, int]) -> RangeSet:
    """Return the part of some ranges before an offset in each partition; all of it where that would leave nothing."""
    cut = RangeSet.of(
        OffsetRange(each.topic_id, each.partition, each.start, min(each.end, ends.get(each.partition, each.end)))
        for each in ranges
        if ends.get(each.partition, each.end) > each.start
    )
    return cut or ranges


def whole_days(
    ready: RangeSet, ends_of: Callable[[date], Mapping[int, int]], first: date, latest: date
) -> Mapping[int, int]:
    """Tell where to cut a backlog, so that a run takes as many whole trading days as fit.

    Args:
        ready: Ranges that may be started, more than one run takes.
        ends_of: For a trading day each partition's first offset after it; later days never have lower ones.
        first: The first trading day of ``ready``.
        latest: The last that there can be.

    Returns:
        For each partition the first offset after the last day that fits; after the first where not even that does.
    """
    ends, fits, fits_not = ends_of(first), 0, (latest - first).days + 1
    while fits_not - fits > 1:
        middle = (fits + fits_not) // 2
        found = ends_of(first + timedelta(days=middle))
        if len(up_to(ready, found)) <= MAX_MESSAGES_PER_RUN:
            ends, fits = found, middle
        else:
            fits_not = middle
    return ends


def limited(ranges: RangeSet, most: int) -> RangeSet:
    """Return the first ``most`` offsets or so of some ranges, the same share from every partition."""
    share = min(1.0, most / len(ranges))
    taken: list[OffsetRange] = []
    for (topic_id, partition), spans in ranges.spans.items():
        allowance = math.ceil(share * sum(end - start for start, end in spans))
        for start, end in spans:
            length = min(end - start, allowance)
            if length > 0:
                taken.append(OffsetRange(topic_id, partition, start, start + length))
                allowance -= length
    return RangeSet.of(taken)


def first_day(days: Iterable[date], earliest: date, latest: date) -> date:
    """Return the trading day that a run is filed under: the first of its messages' days, within the feed's days."""
    return max(earliest, min(min(days, default=latest), latest))
