from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
SYDNEY = TradingCalendar(ZoneInfo("Australia/Sydney"), "24/7", date(2014, 3, 10))
WINDOW = DayWindow(SYDNEY, date(2014, 3, 10), date(2014, 3, 14))


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


def window(calendar: str, zone: str, now: str, **session: object) -> DayWindow:
    feed = SIM.model_copy(
        update={"calendar": calendar, "timezone": zone, "session": SIM.session.model_copy(update=session)}
    )
    return DayWindow.of(feed, datetime.fromisoformat(now).replace(tzinfo=ZoneInfo(zone)))


@pytest.mark.parametrize(
    ("calendar", "zone", "now", "last"),
    [
        ("XTKS", "Asia/Tokyo", "2026-11-30 17:05", "2026-12-01"),  # Osaka's night session, which XTKS does not know
        ("XTKS", "Asia/Tokyo", "2026-11-30 09:00", "2026-12-01"),
        ("XTKS", "Asia/Tokyo", "2026-11-20 17:05", "2026-11-24"),  # Monday is a holiday
        ("XTKS", "Asia/Tokyo", "2026-11-22 12:00", "2026-11-24"),
        ("CMES", "America/Chicago", "2026-11-16 16:59", "2026-11-17"),
        ("CMES", "America/Chicago", "2026-11-16 17:00", "2026-11-18"),
        ("CMES", "America/Chicago", "2026-11-13 17:30", "2026-11-17"),
        ("24/7", "UTC", "2026-11-16 23:59:59.9", "2026-11-18"),  # five seconds later it is the 17th
        ("24/7", "UTC", "2026-11-16 23:59:54", "2026-11-17"),
        ("XNYS", "America/New_York", "2026-11-25 18:00", "2026-11-27"),  # Thanksgiving between
    ],
)
def test_the_window_ends_with_the_session_after_the_present_one(calendar: str, zone: str, now: str, last: str) -> None:
    assert str(window(calendar, zone, now).last) == last


def test_a_message_stamped_a_moment_after_a_midnight_that_our_clock_has_not_reached_is_of_a_day_in_the_window() -> None:
    before_midnight = window("24/7", "UTC", "2026-11-16 23:59:59.850")
    assert date(2026, 11, 17) in before_midnight
    assert before_midnight.day_of(ms(datetime(2026, 11, 17, 0, 0, tzinfo=UTC))) == date(2026, 11, 17)


def test_a_dead_letter_is_filed_under_its_trading_day_by_the_calendar() -> None:
    futures = window("CMES", "America/Chicago", "2026-11-30 12:00")
    sunday_evening = datetime(2026, 11, 15, 17, 5, tzinfo=ZoneInfo("America/Chicago"))
    assert futures.day_of(ms(sunday_evening)) == date(2026, 11, 16)
    fx = window("24/5", "America/New_York", "2026-11-30 12:00", day_starts=time(17))
    friday_evening = datetime(2026, 11, 13, 17, 30, tzinfo=ZoneInfo("America/New_York"))
    assert fx.day_of(ms(friday_evening)) == date(2026, 11, 16)
