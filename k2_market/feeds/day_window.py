"""Bounds the trading days that a feed's tables may hold, and files messages without a valid one under a day."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.values.record_times import NO_TIMESTAMP

CLOCK_TOLERANCE = timedelta(seconds=5)
"""Tolerance for an exchange's clock that is ahead of ours when a session begins: clocks kept by NTP differ by less than
a second, and a message made on the same machine takes no time at all."""


@dataclass(frozen=True)
class DayWindow:
    """The trading days that a feed's tables may hold, first and last included.

    Attributes:
        calendar: Says which trading day an instant belongs to.
        first: The feed's first day.
        last: The last day that there can be a trade of.
    """

    calendar: TradingCalendar
    first: date
    last: date

    @classmethod
    def of(cls, feed: Feed, now: datetime) -> "DayWindow":
        """Give the days that a feed may have rows of at a moment: up to the session after the present one (#046).

        An exchange whose calendar knows no evening session may hold one all the same (Osaka, Shanghai), and its trades
        carry the next session's date; so does the first trade after midnight of a clock that is a little ahead.
        """
        calendar = TradingCalendar.of(feed)
        present = calendar.trading_day_of(now + CLOCK_TOLERANCE)
        return cls(calendar, feed.start_date, calendar.next_trading_day(present))

    def __contains__(self, day: date) -> bool:
        """Say whether a day lies within the window."""
        return self.first <= day <= self.last

    def day_of(self, timestamp_ms: int) -> date:
        """Give the day under which a dead letter is filed: its record timestamp's trading day, clamped into the window.

        A record without a timestamp (-1) goes to the last day, where someone will look soon.

        Args:
            timestamp_ms: Milliseconds since 1970 UTC.
        """
        start, end = self._milliseconds
        if timestamp_ms == NO_TIMESTAMP or timestamp_ms >= end:
            return self.last
        if timestamp_ms < start:
            return self.first
        day = self.calendar.trading_day_of(datetime.fromtimestamp(timestamp_ms // 1000, UTC))
        return min(max(day, self.first), self.last)

    def __str__(self) -> str:
        """As messages name it: ``2014-03-10..2026-11-24``."""
        return f"{self.first}..{self.last}"

    @cached_property
    def _milliseconds(self) -> tuple[int, int]:
        """Tell when the first day starts and the last one ends, since 1970 UTC."""
        bounds = (self.calendar.day_start(self.first), self.calendar.day_end(self.last))
        start, end = (int(bound.timestamp()) * 1000 for bound in bounds)
        return start, end
