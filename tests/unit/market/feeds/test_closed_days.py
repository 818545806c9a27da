from datetime import date

import pytest
from repository import SHIPPED_FEEDS

from k2_market.feeds.closed_days import why_no_session
from k2_market.feeds.feed import load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar

TODAY = date(2026, 12, 1)
FEEDS = load_feeds([SHIPPED_FEEDS])


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2026, 11, 25), None),
        (date(2026, 11, 26), "2026-11-26 is a Thursday without a session of XNYS: a holiday"),
        (date(2026, 11, 28), "2026-11-28 is a Saturday, and XNYS has no session then"),
        (date(2026, 12, 2), "2026-12-02 has not come yet: it is 2026-12-01 at the exchange"),
    ],
)
def test_a_holiday_a_weekend_and_a_future_day_are_told_apart(day: date, reason: str | None) -> None:
    assert why_no_session(TradingCalendar.of(FEEDS["sim"]), day, TODAY) == reason


def test_an_exchange_that_never_closes_has_sessions_at_weekends() -> None:
    assert why_no_session(TradingCalendar.of(FEEDS["hitbtc"]), date(2026, 11, 28), TODAY) is None
