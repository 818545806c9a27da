"""When a feed is expected to speak: open time without a message, and sessions without trades."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.alerting.silence import UNLESS_DECLARED, Expectation, expectation, longest_pause, open_time_since
from k2_market.feeds.feed import Feed

TOKYO = ZoneInfo("Asia/Tokyo")
NEW_YORK = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)


def feed(calendar: str = "XTKS", timezone: str = "Asia/Tokyo", **more: Any) -> Feed:
    return Feed.model_validate(
        {
            "name": "x",
            "exchange": "X",
            "asset_class": "equities",
            "timezone": timezone,
            "calendar": calendar,
            "start_date": date(2026, 1, 5),
            "currency": "JPY",
            "topics": {"trades": "t", "quotes": "q"},
            "sequence": {"scope": "none"},
            "conditions": {},
            **more,
        }
    )


def expected(now: datetime, **more: Any) -> Expectation:
    found = expectation(feed(**more), now)
    assert found is not None
    return found


def tokyo(hour: int, minute: int = 0, day: int = 26) -> datetime:
    """An instant of a Thursday in November 2026, or of a day beside it: open 09:00-11:30 and 12:30-15:30."""
    return datetime(2026, 11, day, hour, minute, tzinfo=TOKYO)


def test_a_feed_is_silent_once_open_time_without_a_message_reaches_its_limit() -> None:
    newest = tokyo(10)

    assert expected(tokyo(10, 14)).silent_for(newest, newest) is None
    assert expected(tokyo(10, 15)).silent_for(newest, newest) == timedelta(minutes=15)


def test_a_lunch_break_is_no_silence() -> None:
    last = tokyo(11, 25)

    assert expected(tokyo(12, 29)).silent_for(last, last) is None
    assert expected(tokyo(12, 39)).silent_for(last, last) is None
    assert expected(tokyo(12, 40)).silent_for(last, last) == timedelta(minutes=15)


def test_nothing_is_expected_of_an_exchange_that_is_closed() -> None:
    last = tokyo(9, 1)

    for closed in (tokyo(3), tokyo(15, 31), tokyo(10, day=28), tokyo(10, day=23)):  # night, evening, Saturday, holiday
        assert expected(closed, silence={"minutes": 5}).silent_for(last, last) is None


def test_silence_counts_from_the_open_of_the_session_not_from_the_message_of_the_day_before() -> None:
    yesterday = tokyo(15, 29, day=25)

    assert expected(tokyo(9, 14)).silent_for(yesterday, yesterday) is None
    assert expected(tokyo(9, 15)).silent_for(yesterday, yesterday) == timedelta(minutes=15)


def test_history_that_was_loaded_once_is_not_expected_to_go_on() -> None:
    old, watched = datetime(2026, 3, 1, tzinfo=UTC), tokyo(8)

    assert expected(tokyo(14)).silent_for(old, watched) is None
    assert expected(tokyo(14), silence={"minutes": 30}).silent_for(old, watched) is not None


def test_a_feed_whose_messages_bear_old_times_is_not_silent_while_they_come_in() -> None:
    assert (
        expected(tokyo(14), silence={"minutes": 30}).silent_for(datetime(2014, 3, 10, tzinfo=UTC), tokyo(13, 59))
        is None
    )


def test_a_feed_that_declares_zero_minutes_is_never_expected_to_speak() -> None:
    assert expectation(feed(silence={"minutes": 0}), tokyo(14)) is None
    assert longest_pause(feed(silence={"minutes": 0})) is None


def test_around_the_clock_silence_counts_across_midnight() -> None:
    last = datetime(2026, 11, 25, 23, 50, tzinfo=UTC)
    crypto = {"calendar": "24/7", "timezone": "UTC"}

    assert expected(last + UNLESS_DECLARED - MINUTE, **crypto).silent_for(last, last) is None
    assert expected(last + UNLESS_DECLARED, **crypto).silent_for(last, last) == UNLESS_DECLARED
    three_days = {**crypto, "silence": {"minutes": 3 * 24 * 60}}
    assert expected(last + timedelta(days=3) - MINUTE, **three_days).silent_for(last, last) is None
    assert expected(last + timedelta(days=3), **three_days).silent_for(last, last) == timedelta(days=3)


def test_closed_days_without_rows_are_listed_and_days_before_the_first_row_are_not() -> None:
    now = expected(tokyo(16), silence={"minutes": 15})

    assert now.closed_days == tuple(date(2026, 11, day) for day in (19, 20, 24, 25, 26))  # the 23rd is a holiday
    assert now.days_without_trades({date(2026, 11, 19), date(2026, 11, 25)}) == [
        date(2026, 11, 20),
        date(2026, 11, 24),
        date(2026, 11, 26),
    ]
    assert now.days_without_trades({date(2026, 11, 25)}) == [date(2026, 11, 26)]
    assert now.days_without_trades(set()) == []


def test_a_session_under_way_is_not_yet_a_day_without_trades() -> None:
    assert date(2026, 11, 26) not in expected(tokyo(15, 29)).closed_days
    assert date(2026, 11, 26) in expected(tokyo(15, 30)).closed_days


def test_only_a_feed_that_declares_silence_is_held_to_a_history_that_ended_long_ago() -> None:
    old = {date(2026, 2, 2)}

    assert expected(tokyo(16)).days_without_trades(old) == []
    assert len(expected(tokyo(16), silence={"minutes": 15}).days_without_trades(old)) == 5


@pytest.mark.parametrize(
    ("day", "close"),
    [(25, 16), (27, 13)],  # the day after Thanksgiving closes at 13:00
)
def test_a_half_day_ends_where_the_calendar_says(day: int, close: int) -> None:
    last = datetime(2026, 11, day, close - 1, 30, tzinfo=NEW_YORK)
    us = {"calendar": "XNYS", "timezone": "America/New_York"}

    assert expected(last.replace(minute=50), **us).silent_for(last, last) is not None
    assert expected(last.replace(hour=close, minute=1), **us).silent_for(last, last) is None


def test_the_longest_pause_reaches_over_the_longest_closure_of_the_calendar() -> None:
    golden_week = longest_pause(feed(silence={"minutes": 15}))
    assert golden_week is not None
    assert timedelta(days=4) < golden_week < timedelta(days=12)
    assert longest_pause(feed("24/7", "UTC", silence={"minutes": 15})) == timedelta(minutes=30)
    assert longest_pause(feed()) is None


def test_open_time_since_a_record_counts_this_session_alone_also_of_feeds_that_may_be_silent() -> None:
    quiet = feed(silence={"minutes": 0})

    assert open_time_since(quiet, datetime(2014, 3, 10, tzinfo=UTC), tokyo(10)) == timedelta(hours=1)
    assert open_time_since(quiet, tokyo(9, 50), tokyo(10)) == timedelta(minutes=10)
    assert open_time_since(quiet, tokyo(9, 50), tokyo(20)) == timedelta(0)


@given(
    minutes=st.integers(0, 7 * 24 * 60),
    ago=st.integers(0, 3 * 24 * 60),
    limit=st.integers(1, 600),
)
def test_open_time_without_a_message_is_never_longer_than_the_time_since_it_nor_than_the_session(
    minutes: int, ago: int, limit: int
) -> None:
    now = datetime(2026, 11, 16, tzinfo=UTC) + minutes * MINUTE
    newest = now - ago * MINUTE

    lasting = expected(now, silence={"minutes": limit}).silent_for(newest, newest)

    assert lasting is None or limit * MINUTE <= lasting <= min(ago, 330) * MINUTE
