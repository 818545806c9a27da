"""Record timestamps are any int64, and stand for an instant or for none."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_market.values.record_times import END_OF_TIME_MS, NO_TIMESTAMP, instant_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_number_is_an_instant_between_1970_and_2262_or_none(timestamp_ms: int) -> None:
    found = instant_of(timestamp_ms)
    assert (found is None) == (not 0 <= timestamp_ms < END_OF_TIME_MS)
    if found is not None:
        assert abs(found - EPOCH - timedelta(milliseconds=timestamp_ms)) < timedelta(milliseconds=1)


def test_no_timestamp_and_microseconds_for_milliseconds_are_no_instants() -> None:
    assert instant_of(NO_TIMESTAMP) is None
    assert instant_of(1_394_000_000_000_000) is None
    assert instant_of(END_OF_TIME_MS) is None
