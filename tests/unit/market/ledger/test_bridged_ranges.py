"""Ranges joined over short gaps."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from range_sets import RANGE_SETS

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet, bridged


@given(RANGE_SETS, st.integers(0, 12))
def test_bridged_ranges_hold_all_of_the_ranges_and_reach_no_further(some: RangeSet, gap: int) -> None:
    joined = bridged(some, gap)
    assert some.issubset(joined)
    for key, spans in some.spans.items():
        assert (joined.spans[key][0][0], joined.spans[key][-1][1]) == (spans[0][0], spans[-1][1])
    assert joined.spans.keys() == some.spans.keys()


@given(RANGE_SETS, st.integers(0, 12))
def test_what_is_read_along_is_short_gaps_and_what_is_left_apart_is_long_ones(some: RangeSet, gap: int) -> None:
    joined = bridged(some, gap)
    assert all(len(each) <= gap for each in joined - some)
    for spans in joined.spans.values():
        assert all(later[0] - earlier[1] > gap for earlier, later in pairwise(spans))


@given(RANGE_SETS)
def test_the_joined_is_a_range_set_like_any_other(some: RangeSet) -> None:
    assert bridged(some, 3) == RangeSet.of(bridged(some, 3))


def test_ten_thousand_single_offsets_are_one_range() -> None:
    islands = RangeSet.of(OffsetRange("t", 0, n * 100, n * 100 + 1) for n in range(10_000))
    assert list(bridged(islands)) == [OffsetRange("t", 0, 0, 999_901)]
