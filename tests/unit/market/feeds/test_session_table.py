"""The sessions that a calendar knows, read once; and calendars that can't be had, by the key that is to change."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from exchange_calendars import get_calendar

from k2_market.feeds.session_table import CalendarUnavailable, Session, SessionTable, session_table

JANUARY = date(2026, 1, 2)


@pytest.mark.parametrize("name", ["XASX", "XNYS", "XTKS", "XHKG", "CMES", "us_futures", "IEPA", "24/5", "XKAR"])
def test_a_minute_is_open_exactly_where_the_library_says_so(name: str) -> None:
    library, table = get_calendar(name, start="2025-11-25"), session_table(name, date(2025, 12, 26))
    drawn, day = random.Random(name), date(2026, 1, 5)
    for _ in range(2_000):
        minute = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=drawn.randrange(300 * 24 * 60))
        day = minute.date()
        spans = table.within(minute - timedelta(days=1), minute + timedelta(days=1), day)
        assert any(opens <= minute < closes for opens, closes in spans) == library.is_open_on_minute(minute), minute


def test_a_lunch_break_is_no_open_time_and_a_half_day_has_none() -> None:
    hong_kong, zone = session_table("XHKG", JANUARY), ZoneInfo("Asia/Hong_Kong")
    usual, eve = hong_kong.sessions[date(2026, 11, 20)], hong_kong.sessions[date(2026, 12, 24)]
    assert [f"{each.astimezone(zone):%H:%M}" for span in usual.open_spans for each in span] == [
        "09:30",
        "12:00",
        "13:00",
        "16:00",
    ]
    assert [f"{each.astimezone(zone):%H:%M}" for span in eve.open_spans for each in span] == ["09:30", "12:00"]


def test_changed_hours_hold_from_their_day_on() -> None:
    tokyo, zone = session_table("XTKS", date(2020, 1, 6)), ZoneInfo("Asia/Tokyo")
    closes = {
        day: f"{tokyo.sessions[day].close.astimezone(zone):%H:%M}" for day in (date(2024, 11, 1), date(2024, 11, 5))
    }
    assert list(closes.values()) == ["15:00", "15:30"]


def test_beyond_what_is_known_weekdays_are_sessions_and_weekends_are_not() -> None:
    known = Session(datetime(2026, 12, 30, 23, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC))
    table = SessionTable(ZoneInfo("America/Chicago"), {date(2026, 12, 31): known})
    week = [date(2027, 1, 4) + timedelta(days=n) for n in range(7)]
    assert [table.is_session(day) for day in week] == [True] * 5 + [False] * 2
    assert [table.is_session(date(2025, 12, 22) + timedelta(days=n)) for n in range(7)] == [True] * 5 + [False] * 2
    assert [table.knows(day) for day in (date(2026, 12, 30), date(2026, 12, 31), date(2027, 1, 1))] == [
        False,
        True,
        False,
    ]


def test_beyond_what_is_known_a_session_opens_at_the_hour_of_the_nearest_one_summer_and_winter() -> None:
    known = Session(datetime(2026, 12, 30, 23, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC))
    table = SessionTable(ZoneInfo("America/Chicago"), {date(2026, 12, 31): known})
    assert table.opens(date(2027, 1, 5)) == datetime(2027, 1, 4, 23, tzinfo=UTC)
    assert table.opens(date(2027, 7, 6)) == datetime(2027, 7, 5, 22, tzinfo=UTC)


def test_a_calendar_is_read_from_its_bound_where_the_month_before_the_first_day_lies_beyond_it() -> None:
    assert session_table("XSAU", date(2021, 1, 5)).first == date(2021, 1, 5)
    assert session_table("AIXK", date(2017, 1, 10)).first == date(2017, 1, 10)
    assert session_table("XNYS", JANUARY).first < JANUARY


@pytest.mark.parametrize("name", ["ASEX", "XBEL", "XBSE", "XCYS", "XTAE"])
def test_a_calendar_that_the_library_can_t_build_is_refused_by_the_key_calendar(name: str) -> None:
    with pytest.raises(CalendarUnavailable, match=f"'{name}' can't be had: exchange_calendars says ") as refused:
        session_table(name, date(2025, 1, 5))
    assert refused.value.key == "calendar"


@pytest.mark.parametrize(
    ("name", "first_day", "words"),
    [
        ("XSHG", date(1985, 1, 1), "sessions from 1990-12-03 on"),
        ("XHKG", date(1955, 1, 3), "sessions from 1960-01-01 on"),
        ("XSAU", date(2020, 6, 1), "sessions from 2021-01-01 on"),
        ("AIXK", date(2016, 12, 30), "sessions from 2017-01-01 on"),
        ("XTKS", date(1996, 12, 30), "sessions from 1997-01-01 on"),
        ("XSHG", date(2027, 3, 1), "sessions up to 2026-12-31 only"),
        ("XNYS", date(2190, 1, 1), "sessions up to 20"),
        ("XNYS", date(1, 1, 1), "exchange_calendars says"),
    ],
)
def test_a_first_day_beyond_a_calendar_s_bounds_is_refused_by_the_key_start_date(
    name: str, first_day: date, words: str
) -> None:
    with pytest.raises(CalendarUnavailable, match=f"does not reach {first_day}: .*{words}") as refused:
        session_table(name, first_day)
    assert refused.value.key == "start_date"


@pytest.mark.slow
def test_korea_s_calendar_is_refused_before_its_bound_too() -> None:
    with pytest.raises(CalendarUnavailable, match="sessions from 1956-01-01 on"):
        session_table("XKRX", date(1950, 1, 1))
