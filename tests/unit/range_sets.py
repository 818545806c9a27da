"""Generators of offset ranges, small enough that they touch, overlap and repeat."""

from hypothesis import strategies as st

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet

RANGE_SETS = st.lists(
    st.builds(
        lambda topic, partition, start, length: OffsetRange(topic, partition, start, start + length),
        st.sampled_from(["t1", "t2", "t3"]),
        st.integers(0, 2),
        st.integers(0, 30),
        st.integers(1, 9),
    ),
    max_size=6,
).map(RangeSet.of)
