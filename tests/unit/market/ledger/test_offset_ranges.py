"""Offset ranges against the plainest model there is: a Python set of offsets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.ledger.offset_ranges import MAX_RANGES_NAMED, OffsetRange, RangeSet, named

ranges = st.builds(
    lambda topic, partition, start, length: OffsetRange(topic, partition, start, start + length),
    st.sampled_from(["t1", "t2"]),
    st.integers(0, 2),
    st.integers(0, 40),
    st.integers(1, 15),
)
range_lists = st.lists(ranges, max_size=8)


def offsets(each: list[OffsetRange] | RangeSet) -> set[tuple[str, int, int]]:
    return {(r.topic_id, r.partition, o) for r in each for o in range(r.start, r.end)}


@given(range_lists)
def test_a_set_holds_exactly_the_offsets_of_its_ranges(some: list[OffsetRange]) -> None:
    made = RangeSet.of(some)
    assert offsets(made) == offsets(some)
    assert len(made) == len(offsets(some))


@given(range_lists, st.randoms())
def test_equal_sets_are_equal_values_in_whatever_order_and_pieces_they_came(some: list[OffsetRange], random) -> None:
    pieces = [OffsetRange(r.topic_id, r.partition, o, o + 1) for r in some for o in range(r.start, r.end)]
    random.shuffle(pieces)
    assert RangeSet.of(pieces) == RangeSet.of(some)


@given(range_lists)
def test_ranges_of_a_set_are_disjoint_coalesced_and_sorted(some: list[OffsetRange]) -> None:
    for spans in RangeSet.of(some).spans.values():
        assert all(earlier[1] < later[0] for earlier, later in pairwise(spans))


@given(range_lists, range_lists)
def test_union_difference_and_intersection_are_those_of_sets(a: list[OffsetRange], b: list[OffsetRange]) -> None:
    left, right = RangeSet.of(a), RangeSet.of(b)
    assert offsets(left | right) == offsets(a) | offsets(b)
    assert offsets(left - right) == offsets(a) - offsets(b)
    assert offsets(left & right) == offsets(a) & offsets(b)
    assert left.isdisjoint(right) == offsets(a).isdisjoint(offsets(b))
    assert left.issubset(right) == offsets(a).issubset(offsets(b))


def test_a_hundred_thousand_ranges_are_taken_from_as_many_others_in_one_pass() -> None:
    """In one pass over each: pair by pair it would outlast the time that a test gets."""
    even = RangeSet({("t", 0): tuple((n, n + 1) for n in range(0, 400_000, 4))})
    pairs = RangeSet({("t", 0): tuple((n, n + 2) for n in range(0, 400_000, 4))})

    assert len(pairs - even) == len(pairs & even) == 100_000
    assert not even - pairs


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 3)])
def test_an_empty_or_negative_range_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not an offset range"):
        OffsetRange("t", 0, start, end)


def test_more_ranges_than_a_sentence_holds_are_counted() -> None:
    assert named(RangeSet.of([OffsetRange("t", 0, 1, 4), OffsetRange("t", 1, 0, 2)])) == "t/0[1,4), t/1[0,2)"
    many = RangeSet.of(OffsetRange("t", n, 0, 1) for n in range(MAX_RANGES_NAMED + 3))
    assert named(many).endswith("t/15[0,1) and 3 more ranges")
