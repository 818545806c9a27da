"""Offsets of rows as ranges, against plain sets."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from range_sets import RANGE_SETS

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, offsets_of, rows_within

Place = tuple[str, int, int]
places = st.lists(st.tuples(st.sampled_from(["t1", "t2"]), st.integers(0, 2), st.integers(0, 30)), max_size=40)


def rows(of: list[Place]) -> pa.Table:
    columns = ([place[n] for place in of] for n in range(3))
    kinds = (pa.string(), pa.int32(), pa.int64())
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=list(OFFSET_COLUMNS)
    )


@settings(deadline=None)
@given(places)
def test_the_offsets_of_rows_are_each_of_theirs_once(some: list[Place]) -> None:
    assert offsets_of(rows(some)) == RangeSet.of(OffsetRange(t, p, o, o + 1) for t, p, o in some)


@settings(deadline=None)
@given(places, RANGE_SETS)
def test_rows_within_ranges_are_those_whose_offsets_the_ranges_hold(some: list[Place], wanted: RangeSet) -> None:
    assert rows_within(rows(some), wanted).tolist() == [wanted.contains(*place) for place in some]
