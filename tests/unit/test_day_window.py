from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.day_window import DayWindow

WINDOW = DayWindow(ZoneInfo("Australia/Sydney"), date(2014, 3, 10), date(2014, 3, 14))


def ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        (datetime(2014, 3, 11, 12, 59, 59, 999_000, UTC), date(2014, 3, 11)),
        (datetime(2014, 3, 11, 13, 0, tzinfo=UTC), date(2014, 3, 12)),  # Sydney is 11 hours ahead in March
        (datetime(2013, 1, 1, tzinfo=UTC), date(2014, 3, 10)),
        (datetime(2014, 4, 1, tzinfo=UTC), date(2014, 3, 14)),
    ],
)
def test_a_dead_letters_day_is_its_local_date_within_the_window(instant, expected):
    assert WINDOW.day_of(ms(instant)) == expected


def test_a_record_without_a_timestamp_goes_to_the_last_day():
    assert WINDOW.day_of(-1) == WINDOW.last


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_timestamp_has_a_day_in_the_window(timestamp_ms):
    assert WINDOW.day_of(timestamp_ms) in WINDOW


def test_first_and_last_day_belong_to_the_window():
    assert WINDOW.first in WINDOW
    assert WINDOW.last in WINDOW
    assert WINDOW.first - timedelta(days=1) not in WINDOW
    assert WINDOW.last + timedelta(days=1) not in WINDOW


def test_a_window_reads_as_its_days():
    assert str(WINDOW) == "2014-03-10..2014-03-14"
