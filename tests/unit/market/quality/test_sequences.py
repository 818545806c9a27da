"""Holds the tracker and the batch analysis to each other, and both to a set of numbers."""

import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import Row, at, batches, dead_letter, message, raw_table

from k2_market.feeds.feed import SequenceScope
from k2_market.quality.sequences import (
    Duplicate,
    Gap,
    LateFill,
    MissingRange,
    Observation,
    OutOfReach,
    SequenceTracker,
    missing_ranges,
)


def numbered(numbers: Iterable[int], **said: object) -> list[Row]:
    return [message(place, sequence_number=n, exchange_timestamp=at(n), **said) for place, n in enumerate(numbers)]


def observe(
    numbers: Iterable[int], tracker: SequenceTracker | None = None, key: str = "BHP"
) -> list[Observation | None]:
    tracker = tracker or SequenceTracker()
    return [tracker.observe(key, number) for number in numbers]


def outstanding(tracker: SequenceTracker, key: str = "BHP") -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in tracker.outstanding(key)]


def missing_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The maximal runs of numbers that a set lacks between its lowest and its highest."""
    seen = sorted(set(numbers))
    return [(a + 1, b - 1) for a, b in pairwise(seen) if b - a > 1]


# A day at once.


def test_a_missing_range_names_its_symbol_and_its_neighbours():
    rows = raw_table(numbered([1, 2, 5]))

    assert missing_ranges(batches(rows), SequenceScope.SYMBOL) == [MissingRange("BHP", 3, 4, at(2), at(5))]
    assert missing_ranges(batches(rows), SequenceScope.SYMBOL)[0].count == 2


def test_numbers_before_the_first_seen_are_not_known_to_be_missing():
    assert missing_ranges(batches(raw_table(numbered([500, 501]))), SequenceScope.SYMBOL) == []


def test_each_symbol_counts_for_itself():
    rows = raw_table(numbered([1, 3], symbol="ANZ") + numbered([2, 4], symbol="BHP"))

    assert [(gap.key, gap.first) for gap in missing_ranges(batches(rows), SequenceScope.SYMBOL)] == [
        ("ANZ", 2),
        ("BHP", 3),
    ]


def test_a_feed_that_counts_by_partition_is_judged_by_partition():
    rows = raw_table(
        numbered([1], symbol="ANZ") + numbered([2, 4], symbol="BHP") + numbered([9], symbol="BHP", kafka_partition=3)
    )

    assert [(gap.key, gap.first, gap.last) for gap in missing_ranges(batches(rows), SequenceScope.PARTITION)] == [
        ("topic-a/0", 3, 3)
    ]


def test_of_a_feed_that_does_not_count_nothing_is_missing():
    assert missing_ranges(batches(raw_table(numbered([1, 9]))), SequenceScope.NONE) == []


def test_rows_without_a_number_fill_nothing():
    rows = raw_table([*numbered([1, 3]), message(7), dead_letter(8)])

    assert [(gap.first, gap.last) for gap in missing_ranges(batches(rows), SequenceScope.SYMBOL)] == [(2, 2)]


def test_the_extremes_of_64_bits_are_no_overflow():
    lowest, highest = -(2**63), 2**63 - 1
    rows = raw_table([message(i, sequence_number=n) for i, n in enumerate([lowest, highest])])

    (gap,) = missing_ranges(batches(rows), SequenceScope.SYMBOL)
    assert (gap.first, gap.last, gap.count) == (lowest + 1, highest - 1, 2**64 - 2)


# One message after the other.


def test_numbers_one_two_five_are_a_gap_of_two():
    assert observe([1, 2, 5]) == [None, None, Gap("BHP", 3, 4)]
    assert Gap("BHP", 3, 4).count == 2


def test_a_hundred_symbols_are_tracked_each_on_its_own():
    tracker = SequenceTracker()
    observed = [tracker.observe(f"S{i}", n) for n in (1, 2, 4) for i in range(100)]

    assert observed == [None] * 200 + [Gap(f"S{i}", 3, 3) for i in range(100)]


def test_a_late_number_fills_its_gap_from_any_side():
    tracker = SequenceTracker()
    observed = observe([1, 9, 5, 2, 8, 3], tracker)

    assert observed[2:] == [LateFill("BHP", n) for n in (5, 2, 8, 3)]
    assert outstanding(tracker) == [(4, 4), (6, 7)]


def test_a_repeated_number_is_a_duplicate_and_makes_no_later_gap():
    assert observe([5, 6, 5, 6, 7]) == [None, None, Duplicate("BHP", 5), Duplicate("BHP", 6), None]


def test_a_restart_of_the_numbers_makes_no_gap_then_or_later():
    tracker = SequenceTracker()
    observed = observe([50_000, 50_001, 1, 2, 50_002], tracker)

    assert observed == [None, None, OutOfReach("BHP", 1), OutOfReach("BHP", 2), None]
    assert outstanding(tracker) == []


def test_a_key_that_is_forgotten_starts_anew():
    tracker = SequenceTracker()
    observe([50_000], tracker)
    tracker.forget("BHP")

    assert observe([1, 2, 4], tracker) == [None, None, Gap("BHP", 3, 3)]


def test_a_number_just_below_the_first_is_late():
    tracker = SequenceTracker()

    assert observe([7, 4], tracker) == [None, LateFill("BHP", 4)]
    assert outstanding(tracker) == [(5, 6)]


def test_past_its_capacity_the_key_longest_unseen_is_forgotten():
    tracker = SequenceTracker(capacity=2)
    for key in ["a", "b", "a", "c"]:
        tracker.observe(key, 1)

    assert ("a" in tracker, "b" in tracker, "c" in tracker) == (True, False, True)
    assert (tracker.key_count, tracker.evictions) == (2, 1)
    assert tracker.observe("b", 9) is None


def test_ten_thousand_keys_are_remembered_and_no_more_in_a_few_megabytes():
    tracker = SequenceTracker()
    tracemalloc.start()
    for key in range(12_000):
        tracker.observe(f"S{key}", 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tracker.key_count, tracker.evictions) == (10_000, 2_000)
    assert peak < 10_000_000


def test_keys_full_of_gaps_stay_in_bounded_memory():
    tracker = SequenceTracker(capacity=100, max_ranges=16)
    tracemalloc.start()
    for number in range(1, 1_000, 2):
        for key in range(150):
            tracker.observe(key, number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert tracker.key_count == 100
    assert peak < 200_000


def test_a_message_costs_far_less_than_a_millisecond():
    tracker = SequenceTracker()
    started = time.perf_counter()
    for number in range(20):
        for key in range(1_000):
            tracker.observe(key, number)

    assert (time.perf_counter() - started) / 20_000 < 0.000_1


def test_past_its_bound_the_lowest_range_is_forgotten_and_nothing_below_is_judged():
    tracker = SequenceTracker(max_ranges=2)
    observe([1, 3, 5, 7], tracker)

    assert outstanding(tracker) == [(4, 4), (6, 6)]
    assert observe([2, 1, 4, 3], tracker) == [
        OutOfReach("BHP", 2),
        OutOfReach("BHP", 1),
        LateFill("BHP", 4),
        Duplicate("BHP", 3),
    ]


@pytest.mark.parametrize("bounds", [{"capacity": 0}, {"reach": -1}, {"max_ranges": 0}])
def test_a_tracker_without_room_is_refused(bounds):
    with pytest.raises(ValueError, match="expected capacity >= 1, reach >= 0, max_ranges >= 1"):
        SequenceTracker(**bounds)


# Both.

ARRIVALS = st.lists(st.tuples(st.sampled_from(["ANZ", "BHP", "CBA"]), st.integers(1, 60)), max_size=60)


@given(ARRIVALS, st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_in_whatever_order_messages_come_tracker_and_day_agree(arrivals, rows_a_batch):
    tracker = SequenceTracker()
    seen: dict[str, list[int]] = defaultdict(list)
    rows = []
    for place, (symbol, number) in enumerate(arrivals):
        tracker.observe(symbol, number)
        seen[symbol].append(number)
        rows.append(message(place, symbol=symbol, sequence_number=number))

    found = missing_ranges(batches(raw_table(rows), rows_a_batch), SequenceScope.SYMBOL)

    for symbol in ("ANZ", "BHP", "CBA"):
        by_hand = missing_of(seen[symbol])
        assert outstanding(tracker, symbol) == by_hand
        assert [(gap.first, gap.last) for gap in found if gap.key == symbol] == by_hand


@given(st.lists(st.integers(1, 40), max_size=40))
@settings(max_examples=100, deadline=None)
def test_every_number_is_new_late_or_a_duplicate_as_a_set_would_say(numbers):
    tracker, seen = SequenceTracker(), set()
    for number in numbers:
        observed = tracker.observe("BHP", number)
        assert isinstance(observed, Duplicate) == (number in seen)
        assert isinstance(observed, LateFill) == (number not in seen and bool(seen) and number < max(seen))
        assert isinstance(observed, Gap) == (bool(seen) and number > max(seen) + 1)
        seen.add(number)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 99), max_size=80), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_bounds_hold_and_what_is_outstanding_is_never_something_seen(numbers, max_ranges):
    tracker = SequenceTracker(max_ranges=max_ranges)
    for number in numbers:
        tracker.observe("BHP", number)
    ranges = outstanding(tracker)

    assert len(ranges) <= max_ranges
    assert all(first <= last for first, last in ranges)
    assert not any(first <= number <= last for first, last in ranges for number in numbers)
