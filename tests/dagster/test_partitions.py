"""A feed's partitions: every day that may have rows now, whatever its calendar and the time of day."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from repository import SHIPPED_FEEDS

from k2_assets.records.partitions import day_of, trading_days
from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import load_feeds

SIM = load_feeds([SHIPPED_FEEDS])["sim"]


@pytest.mark.parametrize(
    ("calendar", "zone", "day_starts"),
    [
        ("24/7", "UTC", None),
        ("24/7", "Pacific/Kiritimati", time(17)),
        ("24/5", "America/New_York", time(17)),
        ("CMES", "America/Chicago", None),
        ("XTKS", "Asia/Tokyo", time(16)),
        ("XTAI", "Asia/Taipei", time(14, 30)),  # twelve days around the lunar new year of 2025
        ("XASX", "Australia/Sydney", None),
    ],
)
def test_every_day_that_may_have_rows_is_a_partition(calendar: str, zone: str, day_starts: time | None) -> None:
    session = SIM.session.model_copy(update={"day_starts": day_starts})
    changes = {"calendar": calendar, "timezone": zone, "start_date": date(2025, 1, 2), "session": session}
    feed = SIM.model_copy(update=changes)
    days = trading_days(feed)
    for hour in range(0, 365 * 24, 5):
        now = datetime(2025, 1, 10, tzinfo=UTC) + timedelta(hours=hour)
        window = DayWindow.of(feed, now)
        with partition_loading_context(effective_dt=now):
            assert day_of(str(days.get_last_partition_key())) >= window.last
            assert day_of(str(days.get_first_partition_key())) == window.first


def test_an_exchange_that_never_closes_has_two_days_ahead_and_no_more() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    days = trading_days(SIM.model_copy(update={"calendar": "24/7", "timezone": "UTC"}))
    with partition_loading_context(effective_dt=now):
        assert days.get_last_partition_key() == "2026-12-02"
