"""The Kafka sensor's plan, as facts in and a plan out."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans import ingest_plan
from k2_market.plans.ingest_plan import (
    FIRST_BACKOFF,
    FailedRun,
    IngestFacts,
    IngestPlan,
    Waiting,
    first_day,
    limited,
    pending_or_waiting,
    plan,
    recording,
    up_to,
    whole_days,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def ranges(*spans: tuple[int, int, int]) -> RangeSet:
    return RangeSet.of(OffsetRange("t", partition, start, end) for partition, start, end in spans)


def topic(*ends: int, low: int = 0) -> TopicState:
    return TopicState("trades", "t", tuple(PartitionState(n, low, end, end) for n, end in enumerate(ends)))


def facts(
    state: TopicState,
    committed: RangeSet | None = None,
    in_flight: tuple[RangeSet, ...] = (),
    failed: tuple[FailedRun, ...] = (),
) -> IngestFacts:
    ledger = Ledger()
    if committed:
        ledger = ledger.with_batch(Batch("b", committed, len(committed)), {"t": "trades"})
    return IngestFacts(state, ledger, in_flight, failed, NOW)


def planned(of: IngestFacts) -> IngestPlan:
    ready = pending_or_waiting(of)
    assert isinstance(ready, RangeSet)
    return plan(of, ready)


def test_a_new_topic_is_taken_from_its_first_offset() -> None:
    assert planned(facts(topic(10, 5))).ranges == ranges((0, 0, 10), (1, 0, 5))


def test_what_the_ledger_has_and_what_runs_carry_is_not_taken_again() -> None:
    of = facts(topic(10, 5), committed=ranges((0, 0, 4)), in_flight=(ranges((0, 4, 6), (1, 0, 5)),))
    assert planned(of).ranges == ranges((0, 6, 10))


def test_nothing_pending_starts_nothing() -> None:
    waiting = pending_or_waiting(facts(topic(10), committed=ranges((0, 0, 10))))
    assert isinstance(waiting, Waiting)
    assert "nothing pending" in waiting.reason


def test_a_third_run_does_not_queue_behind_two() -> None:
    waiting = pending_or_waiting(facts(topic(10), in_flight=(ranges((0, 0, 2)), ranges((0, 2, 4)))))
    assert isinstance(waiting, Waiting)


def test_a_failed_range_rests_and_then_goes_again_alone_as_the_next_attempt() -> None:
    resting = FailedRun(ranges((0, 0, 5)), attempt=1, ended=NOW - FIRST_BACKOFF / 2)
    assert planned(facts(topic(10), failed=(resting,))).ranges == ranges((0, 5, 10))
    rested = FailedRun(ranges((0, 0, 5)), attempt=1, ended=NOW - FIRST_BACKOFF * 2)
    again = planned(facts(topic(10), failed=(rested,)))
    assert (again.ranges, again.attempt) == (ranges((0, 0, 5)), 2)


def test_a_clock_that_was_set_back_since_a_failure_does_not_keep_its_range_resting() -> None:
    failed = FailedRun(ranges((0, 0, 5)), attempt=1, ended=NOW + timedelta(hours=1))
    again = planned(facts(topic(10), failed=(failed,)))
    assert (again.ranges, again.attempt) == (ranges((0, 0, 5)), 2)


def test_only_a_resting_range_pending_says_until_when() -> None:
    resting = FailedRun(ranges((0, 0, 10)), attempt=3, ended=NOW)
    waiting = pending_or_waiting(facts(topic(10), failed=(resting,)))
    assert isinstance(waiting, Waiting)
    assert "12:02:00" in waiting.reason


def test_a_run_key_names_ranges_and_attempt() -> None:
    same = {IngestPlan(ranges((0, 0, 5), (1, 2, 3)), 1).run_key, IngestPlan(ranges((1, 2, 3), (0, 0, 5)), 1).run_key}
    assert len(same) == 1
    assert IngestPlan(ranges((0, 0, 5)), 2).run_key != IngestPlan(ranges((0, 0, 5)), 1).run_key
    assert IngestPlan(ranges((0, 0, 6)), 1).run_key != IngestPlan(ranges((0, 0, 5)), 1).run_key


def test_offsets_that_retention_removed_are_named_as_lost() -> None:
    of = facts(topic(100, low=40), committed=ranges((0, 0, 30)))
    made = planned(of)
    assert made.ranges == ranges((0, 40, 100))
    assert made.lost == ranges((0, 30, 40))


def test_a_backlog_is_cut_where_the_first_day_ends_and_at_the_size_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_plan, "MAX_MESSAGES_PER_RUN", 20)
    of = facts(topic(30, 30))
    ready = pending_or_waiting(of)
    assert isinstance(ready, RangeSet)
    assert plan(of, ready, {0: 8, 1: 6}).ranges == ranges((0, 0, 8), (1, 0, 6))
    assert plan(of, ready, {0: 30, 1: 30}).ranges == ranges((0, 0, 10), (1, 0, 10))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_a_run_takes_as_many_whole_days_as_fit_and_at_least_the_first(counts: list[tuple[int, int]]) -> None:
    counts[0] = (max(1, counts[0][0]), counts[0][1])
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(len(counts))]
    ends = {
        day: {partition: sum(each[partition] for each in counts[: number + 1]) for partition in (0, 1)}
        for number, day in enumerate(days)
    }
    whole = ranges(*((partition, 0, end) for partition, end in ends[days[-1]].items() if end))
    with patch.object(ingest_plan, "MAX_MESSAGES_PER_RUN", 20):
        found = whole_days(whole, ends.__getitem__, days[0], days[-1])
    fitting = [day for day in days if sum(ends[day].values()) <= 20]
    assert sum(found.values()) == sum(ends[max(fitting, default=days[0])].values())


def test_a_cut_that_would_leave_nothing_is_not_made() -> None:
    assert up_to(ranges((0, 5, 9)), {0: 3}) == ranges((0, 5, 9))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100), st.integers(1, 50)), min_size=1), st.integers(1, 200))
def test_a_limited_set_is_a_part_of_the_whole_and_never_empty(spans: list[tuple[int, int, int]], most: int) -> None:
    whole = ranges(*((p, start, start + length) for p, start, length in spans))
    part = limited(whole, most)
    assert part
    assert part.issubset(whole)
    assert len(part) <= most + len(whole.spans)


def test_a_run_is_filed_under_the_first_of_its_days_within_the_feeds() -> None:
    days = [date(1970, 1, 1), date(2026, 11, 20)]
    assert first_day(days, date(2026, 1, 2), date(2026, 11, 24)) == date(2026, 1, 2)
    assert first_day([], date(2026, 1, 2), date(2026, 11, 24)) == date(2026, 11, 24)
    assert first_day([date(2027, 1, 1)], date(2026, 1, 2), date(2026, 11, 24)) == date(2026, 11, 24)


def test_back_off_doubles_up_to_a_quarter_of_an_hour() -> None:
    waits = [ingest_plan.backoff(n) for n in range(1, 8)]
    assert waits[:3] == [timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2)]
    assert waits[-1] == timedelta(minutes=15)


def test_a_loss_with_nothing_to_ride_with_is_recorded_by_a_run_of_its_own() -> None:
    of = facts(topic(10, low=10))
    record = recording(of)
    assert record == IngestPlan(RangeSet(), 1, lost=ranges((0, 0, 10)))
    with_it = replace(of, ledger=of.ledger.with_batch(Batch("b", RangeSet(), 0, lost=of.lost), {"t": "trades"}))
    assert recording(with_it) is None


def test_a_loss_rides_with_what_is_pending_and_waits_for_runs_in_flight() -> None:
    assert recording(facts(topic(20, low=10))) is None
    assert recording(facts(topic(10, low=10), in_flight=(ranges((0, 10, 11)),))) is None
    assert planned(facts(topic(20, low=10))).lost == ranges((0, 0, 10))


def test_a_log_that_ends_before_the_ledger_is_recorded_and_stops_its_topic() -> None:
    of = facts(topic(4, 10), committed=ranges((0, 0, 10)))
    record = recording(of)
    assert record is not None
    assert (record.ranges, record.truncated) == (RangeSet(), ranges((0, 4, 10)))
    assert isinstance(pending_or_waiting(of), Waiting)


def test_a_topic_stays_stopped_when_its_log_has_grown_past_what_it_lost() -> None:
    cut = facts(topic(4), committed=ranges((0, 0, 10)))
    ledger = cut.ledger.with_batch(Batch("c", RangeSet(), 0, truncated=cut.truncated), {"t": "trades"})
    grown = replace(cut, ledger=ledger, topic=topic(50))
    assert recording(grown) is None
    waiting = pending_or_waiting(grown)
    assert isinstance(waiting, Waiting)
    assert "t/0[4,10)" in waiting.reason


def test_a_topic_made_anew_is_taken_from_its_first_offset_whatever_the_old_one_lost() -> None:
    cut = facts(topic(4), committed=ranges((0, 0, 10)))
    ledger = cut.ledger.with_batch(Batch("c", RangeSet(), 0, truncated=cut.truncated), {"t": "trades"})
    anew = replace(cut, ledger=ledger, topic=replace(topic(3), topic_id="t2"))
    assert planned(anew).ranges == RangeSet.of([OffsetRange("t2", 0, 0, 3)])


def test_run_keys_of_runs_that_only_record_tell_what_they_record() -> None:
    keys = {IngestPlan(RangeSet(), 1, ranges((0, 0, 4))).run_key, IngestPlan(RangeSet(), 1, ranges((0, 0, 5))).run_key}
    keys.add(IngestPlan(RangeSet(), 1, RangeSet(), ranges((0, 0, 4))).run_key)
    assert len(keys) == 3
