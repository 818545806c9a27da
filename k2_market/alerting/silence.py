"""Finds out when a feed is silent (#056): no message in the middle of a session, or a whole session without trades.

Time counts only while the feed's calendar is open. A feed is expected to speak if its file says so, or if it spoke in
the session under way or the one before: history that was loaded once is not.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from k2_market.feeds.feed import Feed
from k2_market.feeds.session_table import Span
from k2_market.feeds.trading_calendar import TradingCalendar

UNLESS_DECLARED = timedelta(minutes=15)
"""Silence allowed in a session if the feed's file gives no ``[silence] minutes``."""

SESSIONS_LOOKED_BACK = 5

NEVER_SPOKE_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class Expectation:
    """Describes when messages of a feed are expected, as of an instant.

    Attributes:
        limit: How much open time may pass without a message.
        declared: Whether the feed's file gives the limit, so that messages are expected whatever came before.
        open_spans: The open hours of the session under way, up to the instant, and of sessions that it follows
            without a pause (24/7), as far back as the limit reaches; empty where the exchange is closed.
        live_from: The open of the session before that one.
        closed_days: The trading days whose sessions closed last, oldest first.
    """

    limit: timedelta
    declared: bool
    open_spans: tuple[Span, ...]
    live_from: datetime
    closed_days: tuple[date, ...]

    def silent_for(self, newest: datetime | None, heard: datetime) -> timedelta | None:
        """Give the open time without a message if it reaches the limit; None where it does not.

        Args:
            newest: The timestamp of the newest record; None where there is none.
            heard: When a message was last seen to come in, or since when that has been watched.
        """
        if not self.declared and (newest is None or newest < self.live_from):
            return None
        lasting = _open_time(self.open_spans, max(heard, newest or heard))
        return lasting if self.open_spans and lasting >= self.limit else None

    def days_without_trades(self, days_with_rows: Collection[date]) -> list[date]:
        """List the closed days that have no rows although a day before them has, oldest first."""
        earliest = date.min if self.declared else min(self.closed_days, default=date.max)
        begun = min((day for day in days_with_rows if day >= earliest), default=date.max)
        return [day for day in self.closed_days if day > begun and day not in days_with_rows]


def expectation(feed: Feed, now: datetime) -> Expectation | None:
    """Give what is expected of a feed at an instant; None where its file says that silence means nothing.

    Raises:
        CalendarError: The calendar does not reach the instant.
    """
    if feed.silence.minutes == 0:
        return None
    calendar = TradingCalendar.of(feed)
    before = calendar.previous_trading_day(calendar.trading_day_of(now))
    limit = UNLESS_DECLARED if feed.silence.minutes is None else timedelta(minutes=feed.silence.minutes)
    return Expectation(
        limit=limit,
        declared=feed.silence.minutes is not None,
        open_spans=tuple(_spans_until(calendar, now, limit)),
        live_from=calendar.session(before).open,
        closed_days=_closed_days(feed, calendar, now),
    )


def open_time_since(feed: Feed, instant: datetime, now: datetime) -> timedelta:
    """Give the open time of the session under way from an instant to now; none where the exchange is closed.

    Raises:
        CalendarError: The calendar does not reach the present.
    """
    return _open_time(_spans_until(TradingCalendar.of(feed), now, UNLESS_DECLARED), instant)


def longest_pause(feed: Feed) -> timedelta | None:
    """Give the longest that a feed may go without a message, closed days included; None if its file gives no limit."""
    if not feed.silence.minutes:
        return None
    return TradingCalendar.of(feed).longest_closure() + 2 * timedelta(minutes=feed.silence.minutes)


def _closed_days(feed: Feed, calendar: TradingCalendar, now: datetime) -> tuple[date, ...]:
    days = [calendar.last_closed(now)]
    while len(days) < SESSIONS_LOOKED_BACK:
        days.append(calendar.previous_trading_day(days[-1]))
    return tuple(day for day in reversed(days) if day >= feed.start_date)


def _spans_until(calendar: TradingCalendar, now: datetime, limit: timedelta) -> list[Span]:
    """List the open hours up to an instant, oldest first; none where the exchange is closed then."""
    day = calendar.trading_day_of(now)
    if not calendar.is_trading_day(day) or now > calendar.session(day).close:
        return []
    session = calendar.session(day)
    spans = [(start, min(end, now)) for start, end in session.open_spans if start < now]
    while spans and now - spans[0][0] < limit:
        day = calendar.previous_trading_day(day)
        earlier = calendar.session(day)
        if earlier.close < spans[0][0]:
            break
        spans = [*earlier.open_spans, *spans]
    return spans


def _open_time(spans: Iterable[Span], since: datetime) -> timedelta:
    return sum((max(end - max(start, since), timedelta(0)) for start, end in spans), timedelta(0))
