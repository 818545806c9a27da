"""Finds the trading day of an instant, and the times at which trading days begin, trade and end (#046).

Time is cut into one stretch a date without a gap. A stretch begins, in this order of rules:

1. where the feed says so (``[session] day_starts``);
2. when the session of that date opens, for a calendar whose sessions leave their own date (CME's open the evening
   before). The stretch of a closed date begins at the hour of the next session's open, as many days before it;
3. at the exchange's local midnight.

A stretch under rules 1 and 2 whose date is no trading day belongs to the next trading day: Friday night and Sunday
night of a market that opens on Sunday are Monday. Under rule 3 it keeps its own date: a report that comes on a Saturday
is Saturday's.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from k2_market.errors import CalendarError
from k2_market.feeds.feed import ALWAYS_OPEN, DeclaredFeeds, Feed
from k2_market.feeds.session_table import CalendarUnavailable, Session, SessionTable, session_table

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Session", "TradingCalendar", "calendar_fault", "with_calendars"]

LONGEST_CLOSURE = timedelta(days=12)
"""The longest that exchanges are closed on a schedule: Lunar New Year, Eid. Measured over exchange_calendars' calendars
since 2005; what was longer (Shanghai before that, Moscow in 2022, Buenos Aires in 2002) is history."""

_WEEKDAYS_AROUND_THE_CLOCK = "24/5"
_FIRST_INSTANT = datetime(1970, 1, 3, tzinfo=UTC)
_LAST_INSTANT = datetime(2262, 1, 1, tzinfo=UTC)
_NOON = time(12)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TradingCalendar:
    """Describes which days a feed trades, and when.

    Attributes:
        zone: The exchange's time zone, as its feed's file says.
        calendar_name: A name of ``exchange_calendars``, or 24/7.
        first_day: The feed's first trading day; sessions are known from about then on.
        day_starts: The feed's own hour at which trading days begin, of the evening before if it is noon or later.
    """

    zone: ZoneInfo
    calendar_name: str
    first_day: date
    day_starts: time | None = None

    @classmethod
    def of(cls, feed: Feed) -> "TradingCalendar":
        """Give the calendar of a feed's exchange."""
        return cls(feed.zone, feed.calendar, feed.start_date, feed.session.day_starts)

    @property
    def always_open(self) -> bool:
        """Say whether every instant belongs to a session."""
        return self.calendar_name == ALWAYS_OPEN

    def trading_day_of(self, instant: datetime) -> date:
        """Give the trading day that an instant belongs to (FIX tag 75 where the message names none).

        Example:
            For CMES, Sunday 18:00 in Chicago is Monday; for XNYS it is Sunday, on which nothing trades.
        """
        if not date.min.year + 1 < instant.year < date.max.year:
            return instant.date()  # where dates end there is no day around it; no exchange was or will be there
        day = instant.astimezone(self.zone).date() + _DAY
        while self.day_start(day) > instant:
            day -= _DAY
        return self._owner(day)

    def trading_days_of(self, times_us: "pl.Series") -> "pl.Series":
        """Give the trading days of many instants at once, as ``trading_day_of`` does of one.

        Args:
            times_us: Microseconds since 1970 UTC, without nulls. Times outside of 1970 to 2262, which are refused
                elsewhere, are taken for the nearest end of that.

        Returns:
            Dates.
        """
        import numpy as np
        import polars as pl

        instants = times_us.cast(pl.Datetime("us", "UTC"))
        if not self._rolls and self.day_starts is None:
            return instants.dt.convert_time_zone(self.zone.key).dt.date()
        instants = instants.clip(_FIRST_INSTANT, _LAST_INSTANT)
        utc_dates = instants.dt.date().unique()
        days = sorted({day + n * _DAY for day in utc_dates for n in (-2, -1, 0, 1, 2)})
        starts = pl.Series([self.day_start(day) for day in days], dtype=pl.Datetime("us", "UTC"))
        owners = pl.Series([self._owner(day) for day in days], dtype=pl.Date)
        places = np.searchsorted(starts.to_physical().to_numpy(), instants.to_physical().to_numpy(), side="right") - 1
        return owners.gather(pl.Series(places, dtype=pl.UInt32))

    def day_start(self, day: date) -> datetime:
        """Give the instant at which a date's stretch begins, trading day or not; the daily bar starts here."""
        if self.day_starts is not None:
            begins = day if self.day_starts < _NOON else day - _DAY
            return datetime.combine(begins, self.day_starts, self.zone).astimezone(UTC)
        if self._rolls:
            return self._opening(day)
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

    def day_end(self, day: date) -> datetime:
        """Give the instant at which a date's stretch ends and the next begins; 23 or 25 hours on when clocks change."""
        return self.day_start(day + _DAY)

    def grid_start(self, day: date) -> datetime:
        """Give the whole local hour at or before a day's start, from which its bars shorter than a day are counted."""
        local = self.day_start(day).astimezone(self.zone)
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)

    def instants_of(self, day: date) -> tuple[datetime, datetime]:
        """Give the first instant that belongs to a trading day and the first after it; equal where none does."""
        if self._owner(day) != day:
            return self.day_start(day), self.day_start(day)
        first = day
        while self._owner(first - _DAY) == day:
            first -= _DAY
        return self.day_start(first), self.day_end(day)

    def is_trading_day(self, day: date) -> bool:
        """Say whether the exchange holds a session on a day; beyond its calendar's reach, whether it is a weekday."""
        return self.always_open or self._table.is_session(day)

    def session(self, day: date) -> Session:
        """Give the hours of a trading day: the calendar's between its start and its end.

        A calendar around the clock (24/7, 24/5) has no hours: the whole of each trading day is open.

        Raises:
            CalendarError: The exchange is closed that day, or its calendar does not reach it.
        """
        if not self.always_open:
            self._require_session(day)
        if self.day_starts is None and not self.always_open:
            return self._table.sessions[day]
        start, end = self.day_start(day), self.day_end(day)
        if self.calendar_name in (ALWAYS_OPEN, _WEEKDAYS_AROUND_THE_CLOCK):
            return Session(start, end)
        spans = self._table.within(start, end, day)
        if not spans:
            raise CalendarError(f"{self.calendar_name} has no open hours between {start} and {end}")
        return Session(spans[0][0], spans[-1][1], tuple((a[1], b[0]) for a, b in pairwise(spans)))

    def closes_at(self, day: date) -> datetime:
        """Tell when a day's trading is over: its session's close, or the end of the day where there is none."""
        try:
            return self.session(day).close
        except CalendarError:
            return self.day_end(day)

    def last_closed(self, instant: datetime) -> date:
        """Give the latest trading day whose session has closed by an instant."""
        day = self.trading_day_of(instant)
        while not (self.is_trading_day(day) and self.closes_at(day) <= instant):
            day -= _DAY
        return day

    def next_trading_day(self, day: date) -> date:
        """Give the first trading day after a day."""
        return self._nearest(day, _DAY)

    def previous_trading_day(self, day: date) -> date:
        """Give the last trading day before a day."""
        return self._nearest(day, -_DAY)

    def reporting_session(self, day: date) -> date:
        """Give the trading day with which a date is reported: itself, or the next one if the exchange is closed."""
        return day if self.is_trading_day(day) else self.next_trading_day(day)

    def dates_reported_with(self, session: date) -> tuple[date, ...]:
        """List the dates that are reported with a trading day: the closed ones since the session before, and itself.

        Example:
            With a Monday of XNYS are reported Saturday, Sunday and Monday; with a Tuesday, Tuesday alone.
        """
        first = self.previous_trading_day(session) + _DAY
        return tuple(first + n * _DAY for n in range((session - first).days + 1))

    def closed_dates(self) -> tuple[date, ...]:
        """List the dates without a session, from the first day up to the last session that the calendar knows."""
        if self.always_open:
            return ()
        dates = (self.first_day + n * _DAY for n in range((self._table.last - self.first_day).days))
        return tuple(day for day in dates if not self.is_trading_day(day))

    def session_weekdays(self) -> frozenset[int]:
        """List the weekdays, Monday being 0, on which there are sessions."""
        return frozenset(range(7) if self.always_open else {day.weekday() for day in self._table.sessions})

    def longest_closure(self) -> timedelta:
        """Give the longest time from a close to the next open, over all sessions that are known."""
        if self.calendar_name == ALWAYS_OPEN:
            return timedelta(0)
        sessions = self._table.sessions.values()
        return max((after.open - before.close for before, after in pairwise(sessions)), default=timedelta(0))

    @property
    def _table(self) -> SessionTable:
        return session_table(self.calendar_name, self.first_day)

    @property
    def _rolls(self) -> bool:
        """Say whether days begin at the calendar's opens, and closed dates belong to the next trading day."""
        return not self.always_open and _leaves_local_dates(self.calendar_name, self.first_day, self.zone)

    def _owner(self, day: date) -> date:
        """Return the trading day that a date's stretch belongs to."""
        if self.is_trading_day(day) or (self.day_starts is None and not self._rolls):
            return day
        return self.next_trading_day(day)

    def _opening(self, day: date) -> datetime:
        table = self._table
        trading_day = day if table.is_session(day) else self.next_trading_day(day)
        opens = table.opens(trading_day)
        if trading_day == day:
            return opens
        local = opens.astimezone(table.zone)
        return datetime.combine(local.date() - (trading_day - day), local.time(), table.zone).astimezone(UTC)

    def _require_session(self, day: date) -> None:
        table = self._table
        if not table.knows(day):
            raise CalendarError(
                f"calendar {self.calendar_name} knows sessions from {table.first} to {table.last}, not {day}"
            )
        if day not in table.sessions:
            raise CalendarError(f"{day} is not a trading day of {self.calendar_name}")

    def _nearest(self, day: date, step: timedelta) -> date:
        day += step
        while not self.is_trading_day(day):
            day += step
        return day


def calendar_fault(feed: Feed) -> str | None:
    """Say why a feed's sessions can't be had, its file's key first; None where they can.

    Costs the import of ``exchange_calendars`` (0.5 s) unless the feed never closes.
    """
    calendar = TradingCalendar.of(feed)
    if calendar.always_open:
        return None
    try:
        table = session_table(feed.calendar, feed.start_date)
    except CalendarUnavailable as error:
        return f"key {error.key}: {error}"
    return None if calendar.day_starts is None else _cut_session(calendar, table)


def with_calendars(declared: DeclaredFeeds) -> DeclaredFeeds:
    """Refuse the feeds among some whose session calendar can't be had."""
    faults = {name: fault for name, feed in declared.items() if (fault := calendar_fault(feed)) is not None}
    return declared.without(faults)


def _cut_session(calendar: TradingCalendar, table: SessionTable) -> str | None:
    """Say which session a feed's own hour would cut in two, if any; sessions of about a day are cut by every hour."""

    def shown(instant: datetime) -> str:
        return f"{instant.astimezone(calendar.zone):%Y-%m-%d %H:%M}"

    for day, session in table.sessions.items():
        start, end = calendar.day_start(day), calendar.day_end(day)
        if session.close - session.open < _LONGEST_DAY_SESSION and not start <= session.open < session.close <= end:
            return (
                f"key session.day_starts: {calendar.day_starts:%H:%M} cuts the session of {day} in two: "
                f"{calendar.calendar_name} trades from {shown(session.open)} to {shown(session.close)} in "
                f"{calendar.zone.key}, the trading day would be from {shown(start)} to {shown(end)}. Choose an hour "
                "after the close and before the next open"
            )
    return None


_LONGEST_DAY_SESSION = timedelta(hours=16)
"""Sessions of about a day (CME, FX) have no hour that does not cut them: there the feed's word stands."""


@cache
def _leaves_local_dates(calendar_name: str, first_day: date, zone: ZoneInfo) -> bool:
    return session_table(calendar_name, first_day).leaves_local_dates(zone)
