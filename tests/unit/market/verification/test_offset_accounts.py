"""Sweeping over ranges, held to sets of single offsets."""

from collections import Counter
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.verification.offset_accounts import (
    bridged,
    coalesced,
    difference,
    intersection,
    offsets_in,
    pieces,
    ranges,
    ranges_of_offsets,
    texts,
    union,
)

Span = tuple[str, int, int, int]
SPANS = st.lists(
    st.builds(
        lambda topic, partition, start, length: (topic, partition, start, start + length),
        st.sampled_from(["a", "b"]),
        st.integers(0, 1),
        st.integers(0, 20),
        st.integers(1, 8),
    ),
    max_size=6,
)
PLACES = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1), st.integers(0, 12)), max_size=20)


def places(found: pl.DataFrame) -> Counter[tuple[str, int, int]]:
    rows = found.select("topic_id", "partition", "start", "end").iter_rows()
    return Counter((topic, partition, at) for topic, partition, start, end in rows for at in range(start, end))


def apart(found: pl.DataFrame) -> bool:
    """Whether ranges neither overlap nor touch, and stand in order."""
    rows = list(found.iter_rows())
    return all(one[:2] < other[:2] or (one[:2] == other[:2] and one[3] < other[2]) for one, other in pairwise(rows))


@settings(deadline=None)
@given(SPANS, SPANS)
def test_union_difference_and_intersection_are_those_of_sets(one: list[Span], other: list[Span]) -> None:
    left, right = ranges(one), ranges(other)
    for found, expected in (
        (union(left, right), set(places(left)) | set(places(right))),
        (difference(left, right), set(places(left)) - set(places(right))),
        (intersection(left, right), set(places(left)) & set(places(right))),
    ):
        assert set(places(found)) == expected
        assert offsets_in(found) == len(expected)
        assert apart(found)


@settings(deadline=None)
@given(SPANS, SPANS)
def test_every_piece_knows_how_often_each_account_tells_of_it(one: list[Span], other: list[Span]) -> None:
    left, right = ranges(one), ranges(other)
    found = pieces({"left": left, "right": right})
    assert max(places(found).values(), default=1) == 1
    for name, account in (("left", left), ("right", right)):
        counted: Counter[tuple[str, int, int]] = Counter()
        for row in found.iter_rows(named=True):
            for at in range(row["start"], row["end"]):
                counted[row["topic_id"], row["partition"], at] += row[name]
        assert +counted == places(account)


@settings(deadline=None)
@given(PLACES)
def test_offsets_become_ranges_that_hold_each_as_often_as_it_is_there(found: list[tuple[str, int, int]]) -> None:
    kinds = {"topic_id": pl.String, "partition": pl.Int32, "offset": pl.Int64}
    offsets = pl.DataFrame(found, schema=kinds, orient="row")
    assert places(ranges_of_offsets(offsets)) == Counter(found)


@settings(deadline=None)
@given(SPANS, st.integers(0, 4))
def test_bridging_takes_in_what_lies_between_neighbours_and_nothing_else(spans: list[Span], gap: int) -> None:
    whole = union(ranges(spans))
    found = bridged(whole, gap)
    assert difference(whole, found).is_empty()
    between = difference(found, whole)
    assert all(end - start <= gap for _, _, start, end in coalesced(between).iter_rows())
    steps = bridged(found, gap)
    assert steps.equals(found)


def test_ranges_are_written_as_everywhere_in_k2() -> None:
    assert texts(ranges([("t", 3, 17, 18)])) == ("t/3[17,18)",)
