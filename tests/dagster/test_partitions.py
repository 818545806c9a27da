"""A feed's partitions are the sessions of its exchange: every one that may have rows, and nothing else."""

from datetime import UTC, date, datetime, time, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_assets.records.partitions import (
    by_session,
    dates_of_session,
    day_of,
    latest_of_session,
    rows_metadata,
    trading_days,
)
from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
CALENDARS = [
    ("24/7", "UTC", None),
    ("24/7", "Pacific/Kiritimati", time(17)),
    ("24/5", "America/New_York", time(17)),
    ("CMES", "America/Chicago", None),
    ("XTKS", "Asia/Tokyo", time(16)),
    ("XTAI", "Asia/Taipei", time(14, 30)),  # twelve days around the lunar new year of 2025
    ("XASX", "Australia/Sydney", None),
    ("XSAU", "Asia/Riyadh", None),  # trades on Sundays
    ("XNYS", "America/New_York", None),
    ("BVMF", "America/Sao_Paulo", None),
    ("XSGO", "America/Santiago", None),  # its clocks change at midnight
]


def feed_with(calendar: str, zone: str, day_starts: time | None) -> Feed:
    session = SIM.session.model_copy(update={"day_starts": day_starts})
    changes = {"calendar": calendar, "timezone": zone, "start_date": date(2025, 1, 2), "session": session}
    return SIM.model_copy(update=changes)


@pytest.mark.parametrize(("calendar", "zone", "day_starts"), CALENDARS)
def test_every_day_that_may_have_rows_is_a_partition(calendar: str, zone: str, day_starts: time | None) -> None:
    feed = feed_with(calendar, zone, day_starts)
    days = trading_days(feed)
    for hour in range(0, 365 * 24, 5):
        now = datetime(2025, 1, 10, tzinfo=UTC) + timedelta(hours=hour)
        window = DayWindow.of(feed, now)
        with partition_loading_context(effective_dt=now):
            assert day_of(str(days.get_last_partition_key())) >= window.last


@given(st.sampled_from(CALENDARS), st.datetimes(datetime(2025, 1, 10), datetime(2026, 11, 30), timezones=st.just(UTC)))
@settings(deadline=None, max_examples=20)
def test_every_session_up_to_the_next_is_a_partition_and_nothing_else(
    of: tuple[str, str, time | None], now: datetime
) -> None:
    feed = feed_with(*of)
    calendar, days = TradingCalendar.of(feed), trading_days(feed)
    with partition_loading_context(effective_dt=now):
        found = [day_of(key) for key in days.get_partition_keys()]
        assert all(days.has_partition_key(day.isoformat()) for day in found[:3] + found[-3:])
        assert not any(days.has_partition_key(day.isoformat()) for day in calendar.closed_dates()[:40])
        assert len(days.empty_subset().with_partition_keys([str(day) for day in found])) == len(found)
        whole = dg.PartitionKeyRange(str(found[0]), str(found[-1]))
        assert [day_of(key) for key in days.get_partition_keys_in_range(whole)] == found
    dates = [feed.start_date + timedelta(n) for n in range((found[-1] - feed.start_date).days + 1)]
    assert found == [day for day in dates if calendar.is_trading_day(day)]
    last = DayWindow.of(feed, now).last
    ahead = [day for day in found if day > last]
    assert last in found
    assert len(ahead) <= 2, "no further than two sessions after the last that may have rows"


@pytest.mark.parametrize(("calendar", "zone", "day_starts"), CALENDARS)
def test_every_date_is_reported_with_exactly_one_session_on_or_after_it(
    calendar: str, zone: str, day_starts: time | None
) -> None:
    of = TradingCalendar.of(feed_with(calendar, zone, day_starts))
    for n in range(365):
        day = date(2025, 1, 2) + timedelta(n)
        session = of.reporting_session(day)
        assert session >= day
        assert of.is_trading_day(session)
        assert day in of.dates_reported_with(session)
        assert day not in of.dates_reported_with(of.next_trading_day(session))


def test_an_exchange_that_never_closes_has_two_days_ahead_and_no_more() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    days = trading_days(SIM.model_copy(update={"calendar": "24/7", "timezone": "UTC"}))
    with partition_loading_context(effective_dt=now):
        assert days.get_last_partition_key() == "2026-12-02"


FRIDAY, SATURDAY, SUNDAY, MONDAY = (date(2025, 3, 7) + timedelta(n) for n in range(4))
NYSE = TradingCalendar.of(feed_with("XNYS", "America/New_York", None))


def test_a_session_is_made_with_the_closed_dates_before_it_that_have_rows() -> None:
    assert dates_of_session(NYSE, MONDAY, {FRIDAY, SATURDAY, MONDAY}) == (SATURDAY, MONDAY)
    assert dates_of_session(NYSE, MONDAY, {SUNDAY}) == (SUNDAY,)
    assert dates_of_session(NYSE, MONDAY, {FRIDAY}) == (MONDAY,)


def test_numbers_of_a_closed_date_count_for_its_session() -> None:
    assert latest_of_session(NYSE, {FRIDAY: 9, SATURDAY: 5, MONDAY: 3}) == {FRIDAY: 9, MONDAY: 5}
    assert by_session(NYSE, {SUNDAY: "b", SATURDAY: "a"}) == {MONDAY: {SATURDAY: "a", SUNDAY: "b"}}


def test_rows_of_closed_dates_are_counted_with_the_session_and_named() -> None:
    metadata = rows_metadata(MONDAY, {SATURDAY: 2, MONDAY: 5})
    closed = metadata["closed_dates"]
    assert metadata["dagster/partition_row_count"] == 7
    assert isinstance(closed, dg.TableMetadataValue)
    assert [dict(each.data) for each in closed.records] == [{"trade_date": "2025-03-08", "rows": 2}]
    assert rows_metadata(MONDAY, {MONDAY: 5}) == {"dagster/partition_row_count": 5}
