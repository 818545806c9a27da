"""Offsets that runs fail of are found by halves and set aside; all others come in, whatever else fails meanwhile."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet, halves
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans.failed_runs import (
    ATTEMPTS_ALONE,
    ATTEMPTS_BEFORE_HALVING,
    ATTEMPTS_BEFORE_SETTING_ASIDE,
    ATTEMPTS_TO_KEEP,
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    Cause,
    FailedRun,
    Handling,
    Try,
    next_try,
    seconds_for,
    suspected,
)
from k2_market.plans.ingest_claims import ClaimFacts, IngestClaims, admitted
from k2_market.plans.ingest_plan import IngestFacts, IngestPlan, Waiting, pending_or_waiting, plan

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)

MOST_RUNS = 300
MOST_TICKS = MOST_RUNS * 100
"""Offsets rest for 90 ticks at most after each."""

Place = tuple[int, int]
"""Partition and offset."""


def ranges(*spans: tuple[int, int, int]) -> RangeSet:
    return RangeSet.of(OffsetRange("t", partition, start, end) for partition, start, end in spans)


def failed(of: RangeSet, attempt: int, cause: Cause = Cause.UNKNOWN, handling: Handling = Handling.DECODE) -> FailedRun:
    return FailedRun(of, attempt, LONG_AGO, cause, handling)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(1, 9)), min_size=1))
def test_halves_are_parts_of_the_whole_that_share_nothing_and_are_of_one_size(
    spans: list[tuple[int, int, int]],
) -> None:
    whole = ranges(*((partition, start, start + length) for partition, start, length in spans))
    first, second = halves(whole)
    assert first | second == whole
    assert first.isdisjoint(second)
    assert 0 <= len(second) - len(first) <= 1


def test_a_run_that_fails_again_and_again_is_halved_and_its_halves_are_tried_one_after_the_other() -> None:
    whole, first, second = ranges((0, 0, 10)), ranges((0, 0, 5)), ranges((0, 5, 10))
    known = [failed(whole, 1)]
    assert next_try(whole, known) == Try(whole, 2)
    known.append(failed(whole, 2))
    assert next_try(whole, known) == Try(whole, 3)
    known.append(failed(whole, 3))
    assert ATTEMPTS_BEFORE_HALVING == 3
    assert next_try(whole, known) == Try(first, 4, isolates=True)
    assert next_try(second, known) == Try(second, 4, isolates=True), "the first half came in or rests"
    known.append(failed(first, 4))
    assert next_try(whole, known) == Try(ranges((0, 0, 2)), 5, isolates=True)


def test_one_offset_is_set_aside_after_it_failed_alone_often_enough() -> None:
    one = ranges((0, 7, 8))
    known = [failed(ranges((0, 0, 10)), attempt) for attempt in (1, 2, 3)]
    for number in range(ATTEMPTS_ALONE):
        assert next_try(one, known) == Try(one, 4 + number, isolates=True)
        known.append(failed(one, 4 + number))
    assert next_try(one, known) == Try(one, 4 + ATTEMPTS_ALONE, Handling.KEEP_BYTES, isolates=True)


def test_where_not_even_its_bytes_can_be_kept_the_offset_alone_is_noted() -> None:
    one = ranges((0, 7, 8))
    known = [failed(one, attempt) for attempt in range(1, ATTEMPTS_ALONE + 1)]
    for number in range(ATTEMPTS_TO_KEEP):
        attempt = ATTEMPTS_ALONE + 1 + number
        assert next_try(one, known) == Try(one, attempt, Handling.KEEP_BYTES, isolates=True)
        known.append(failed(one, attempt, handling=Handling.KEEP_BYTES))
    skipped = next_try(one, known)
    assert skipped == Try(one, ATTEMPTS_ALONE + ATTEMPTS_TO_KEEP + 1, Handling.SKIP, isolates=True)


def test_offsets_that_their_runs_name_are_set_aside_together_and_never_halved() -> None:
    named = ranges((0, 20, 30), (1, 5, 6))
    known = [failed(named, attempt, Cause.NAMED) for attempt in range(1, ATTEMPTS_BEFORE_SETTING_ASIDE)]
    tried = next_try(named, known)
    assert tried is not None
    assert (tried.ranges, tried.handling) == (named, Handling.DECODE)
    known.append(failed(named, ATTEMPTS_BEFORE_SETTING_ASIDE, Cause.NAMED))
    assert next_try(named, known) == Try(named, ATTEMPTS_BEFORE_SETTING_ASIDE + 1, Handling.KEEP_BYTES, isolates=True)


def test_one_run_that_says_it_is_a_late_attempt_sets_nothing_aside() -> None:
    one = ranges((0, 20, 21))
    for cause in (Cause.NAMED, Cause.UNKNOWN):
        tried = next_try(one, [failed(one, 1_000, cause)])
        assert tried is not None
        assert tried.handling is Handling.DECODE


def test_what_failed_for_want_of_something_else_is_never_halved_nor_set_aside() -> None:
    whole = ranges((0, 0, 10))
    known = [failed(whole, attempt, Cause.OUTSIDE) for attempt in range(1, 100)]
    assert next_try(whole, known) == Try(whole, 100)
    assert not suspected(known)
    one = ranges((0, 0, 1))
    known = [failed(one, attempt, Cause.OUTSIDE) for attempt in range(1, 100)]
    assert next_try(one, known) == Try(one, 100)


def test_while_one_half_rests_the_other_goes_on() -> None:
    whole, first = ranges((0, 0, 10)), ranges((0, 0, 5))
    known = (*(failed(whole, attempt) for attempt in (1, 2, 3)), FailedRun(first, 4, NOW))
    topic = TopicState("trades", "t", (PartitionState(0, 0, 10, 10),))
    facts = IngestFacts(topic, Ledger(), (), known, NOW)
    ready = pending_or_waiting(facts)
    assert isinstance(ready, RangeSet)
    assert plan(facts, ready).ranges == ranges((0, 5, 10))


def test_new_messages_and_the_search_for_one_take_turns() -> None:
    known = tuple(failed(ranges((0, 0, 10)), attempt) for attempt in (1, 2, 3))
    topic = TopicState("trades", "t", (PartitionState(0, 0, 20, 20),))
    facts = IngestFacts(topic, Ledger(), (), known, NOW)
    new, half = ranges((0, 10, 20)), ranges((0, 0, 5))

    def planned(in_flight: tuple[RangeSet, ...]) -> IngestPlan:
        of = replace(facts, in_flight=in_flight)
        ready = pending_or_waiting(of)
        assert isinstance(ready, RangeSet)
        return plan(of, ready)

    assert (planned(()).ranges, planned(()).isolates) == (new, False)
    assert (planned((new,)).ranges, planned((new,)).isolates) == (half, True)
    assert (planned((half,)).ranges, planned((half,)).isolates) == (new, False)


def test_a_search_rests_but_shortly_between_its_steps_and_has_a_time_of_its_own() -> None:
    assert FailedRun(ranges((0, 0, 8)), 20, NOW).rests_until == NOW + FIRST_BACKOFF
    assert FailedRun(ranges((0, 0, 8)), 20, NOW, Cause.NAMED).rests_until == NOW + LONGEST_BACKOFF
    assert FailedRun(ranges((0, 0, 8)), 3, NOW).rests_until == NOW + 4 * FIRST_BACKOFF
    assert 300 <= seconds_for(ranges((0, 0, 1))) < seconds_for(ranges((0, 0, 4_000_000))) < 3600
    assert IngestPlan(ranges((0, 0, 8)), 4, isolates=True).max_seconds == seconds_for(ranges((0, 0, 8)))
    assert IngestPlan(ranges((0, 0, 8)), 4).max_seconds is None


@dataclass
class World:
    """A topic with messages that do harm, and runs that are carried out one after the other as they are planned.

    Attributes:
        ends: How many messages each partition has.
        kills: Places whose messages kill whatever decodes them.
        kills_readers: Those that kill whatever reads them.
        named: Those that runs name when they fail of them.
        random: Chance kills runs, and the catalog fails.
        luck: How probable it is that chance fails a run.
    """

    ends: list[int]
    kills: set[Place]
    kills_readers: set[Place]
    named: set[Place]
    random: Random
    luck: float = 0.3
    now: datetime = NOW
    ledger: Ledger = field(default_factory=Ledger)
    failed: list[FailedRun] = field(default_factory=list)
    handled: Counter[Handling] = field(default_factory=Counter)
    runs: int = 0

    def go_on(self, unlucky: int) -> None:
        """Plan and run until nothing is pending; chance fails no more than some of the runs."""
        for _ in range(MOST_TICKS):
            facts = IngestFacts(self._topic, self.ledger, (), tuple(self.failed), self.now)
            ready = pending_or_waiting(facts)
            if isinstance(ready, Waiting) and ready.reason.startswith("nothing pending"):
                return
            if self.runs > MOST_RUNS:
                break
            self.now += timedelta(seconds=10)
            if isinstance(ready, RangeSet):
                self.runs += 1
                unlucky -= self._carry_out(plan(facts, ready), unlucky > 0)
        raise AssertionError(f"after {self.runs} runs there is still something to be done")

    @property
    def _topic(self) -> TopicState:
        return TopicState("trades", "t", tuple(PartitionState(n, 0, end, end) for n, end in enumerate(self.ends)))

    def _carry_out(self, planned: IngestPlan, may_fail: bool) -> bool:
        """Carry out a run; whether chance failed it."""
        left = planned.ranges - self.ledger.settled
        assert left == planned.ranges, "nothing is planned twice"
        claims = IngestClaims("t", planned.ranges, planned.lost, planned.truncated, planned.handling)
        facts = ClaimFacts(self._topic, self.ledger, failed=tuple(self.failed))
        assert admitted(claims, facts).handling is planned.handling, "what is planned is not refused"
        if may_fail and self.random.random() < self.luck:
            cause = self.random.choice([Cause.UNKNOWN, Cause.OUTSIDE])
            self._fail(planned, planned.ranges, cause)
            return True
        places = {(each.partition, offset) for each in left for offset in range(each.start, each.end)}
        decodes, reads = planned.handling is Handling.DECODE, planned.handling is not Handling.SKIP
        if (decodes and places & self.kills) or (reads and places & self.kills_readers):
            self._fail(planned, planned.ranges, Cause.UNKNOWN)
        elif decodes and places & self.named:
            self._fail(planned, ranges(*((p, o, o + 1) for p, o in places & self.named)), Cause.NAMED)
        else:
            self.handled[planned.handling] += len(left)
            covered = left if reads else RangeSet()
            aside = left if planned.handling is not Handling.DECODE else RangeSet()
            batch = Batch(f"b{self.runs}", covered, len(covered), len(aside & covered), set_aside=aside)
            self.ledger = self.ledger.with_batch(batch, {"t": "trades"})
        return False

    def _fail(self, planned: IngestPlan, of: RangeSet, cause: Cause) -> None:
        self.failed.append(FailedRun(of, planned.attempt, self.now, cause, planned.handling))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    ends = draw(st.lists(st.integers(1, 3) | st.integers(1, 300), min_size=1, max_size=3))
    place = st.integers(0, len(ends) - 1).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, ends[p] - 1)))
    harmful = draw(st.lists(place, max_size=4, unique=True))
    kinds = [draw(st.integers(0, 2)) for _ in harmful]
    of = [{place for place, kind in zip(harmful, kinds, strict=True) if kind == wanted} for wanted in range(3)]
    return World(ends, of[0], of[1], of[2], Random(draw(st.integers())), draw(st.sampled_from([0.1, 0.5, 1.0])))


@settings(max_examples=150, deadline=None)
@given(worlds(), st.integers(0, ATTEMPTS_ALONE - 1))
def test_every_message_comes_in_but_those_that_do_harm_and_these_alone_are_set_aside(
    world: World, unlucky: int
) -> None:
    world.go_on(unlucky)
    harmful = world.kills | world.kills_readers | world.named
    every = ranges(*((partition, 0, end) for partition, end in enumerate(world.ends)))
    assert world.ledger.settled == every
    assert world.ledger.set_aside == ranges(*((p, o, o + 1) for p, o in harmful))
    assert world.ledger.unread == ranges(*((p, o, o + 1) for p, o in world.kills_readers))
    assert world.ledger.dead_letters == len(world.kills | world.named)
    assert world.runs <= 10 + 2 * unlucky + 50 * len(harmful)


def test_one_message_among_millions_is_found_within_the_runs_of_a_day_that_are_looked_at() -> None:
    one = (0, 1_234_567)
    whole = ranges((0, 0, 4_000_000))
    known = [failed(whole, attempt) for attempt in (1, 2, 3)]
    left, steps = whole, 0
    while (tried := next_try(left, known)) is not None and tried.handling is Handling.DECODE:
        steps += 1
        if tried.ranges.contains("t", *one):
            known.append(failed(tried.ranges, tried.attempt))
        else:
            left = left - tried.ranges
    assert tried is not None
    assert tried.ranges == ranges((0, one[1], one[1] + 1))
    assert steps <= 2 * 22 + ATTEMPTS_ALONE


@pytest.mark.parametrize("cause", [Cause.UNKNOWN, Cause.NAMED])
def test_an_end_ahead_of_the_clock_rests_no_longer_than_any(cause: Cause) -> None:
    ahead = FailedRun(ranges((0, 0, 8)), 2, NOW + timedelta(hours=1), cause)
    assert not ahead.is_resting(NOW)
    assert FailedRun(ranges((0, 0, 8)), 2, NOW, cause).is_resting(NOW + timedelta(seconds=59))
