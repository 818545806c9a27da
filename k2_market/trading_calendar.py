"""Trading days and sessions of a feed's exchange, by ``exchange_calendars``."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from k2_market.errors import CalendarError
from k2_market.feed import Feed

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar


@dataclass(frozen=True)
class Session:
    """The regular session ``[open, close)`` of a trading day, as UTC instants."""

    open: datetime
    close: datetime


@dataclass(frozen=True)
class TradingCalendar:
    """Which days a feed trades, and when.

    Days that ``exchange_calendars`` does not reach (it computes about a year ahead) count as trading days
    from Monday to Friday, so that a missing holiday delays nothing.
    """

    zone: ZoneInfo
    calendar_name: str
    first_day: date

    @classmethod
    def of(cls, feed: Feed) -> "TradingCalendar":
        """The calendar of a feed's exchange."""
        return cls(zone=feed.zone, calendar_name=feed.calendar, first_day=feed.start_date)

    @property
    def always_open(self) -> bool:
        """Whether every instant belongs to a session."""
        return self.calendar_name == "24/7"

    def trading_day_of(self, instant: datetime) -> date:
        """The exchange's local date at an instant (FIX tag 75 where the message names none)."""
        return instant.astimezone(self.zone).date()

    def day_start(self, day: date) -> datetime:
        """The exchange's local midnight that begins a day, in UTC; bar grids start here."""
        return datetime.combine(day, time(), tzinfo=self.zone).astimezone(UTC)

    def day_end(self, day: date) -> datetime:
        """The local midnight that ends a day, in UTC (23 or 25 hours on when clocks change)."""
        return self.day_start(day + timedelta(days=1))

    def is_trading_day(self, day: date) -> bool:
        """Whether the exchange holds a session on a day."""
        if self.always_open:
            return True
        calendar = _exchange_calendar(self.calendar_name, self.first_day)
        if not calendar.first_session.date() <= day <= calendar.last_session.date():
            return day.weekday() < 5
        return bool(calendar.is_session(day.isoformat()))

    def session(self, day: date) -> Session:
        """The session of a trading day; the whole day where the exchange never closes.

        Raises:
            CalendarError: The exchange is closed that day, or its calendar does not reach it.
        """
        if self.always_open:
            return Session(self.day_start(day), self.day_end(day))
        calendar = _exchange_calendar(self.calendar_name, self.first_day)
        if not calendar.first_session.date() <= day <= calendar.last_session.date():
            raise CalendarError(
                f"calendar {self.calendar_name} knows sessions from {calendar.first_session.date()} to "
                f"{calendar.last_session.date()}, not {day}"
            )
        if not calendar.is_session(day.isoformat()):
            raise CalendarError(f"{day} is not a trading day of {self.calendar_name}")
        label = day.isoformat()
        return Session(
            calendar.session_open(label).to_pydatetime().astimezone(UTC),
            calendar.session_close(label).to_pydatetime().astimezone(UTC),
        )

    def closes_at(self, day: date) -> datetime:
        """When a day's trading is over: its session's close, or the local midnight after it."""
        try:
            return self.session(day).close
        except CalendarError:
            return self.day_end(day)

    def next_trading_day(self, day: date) -> date:
        """The first trading day after a day."""
        return self._nearest(day, timedelta(days=1))

    def previous_trading_day(self, day: date) -> date:
        """The last trading day before a day."""
        return self._nearest(day, timedelta(days=-1))

    def _nearest(self, day: date, step: timedelta) -> date:
        day += step
        while not self.is_trading_day(day):
            day += step
        return day


@cache
def _exchange_calendar(name: str, first_day: date) -> "ExchangeCalendar":
    # Imported late: exchange_calendars brings pandas, half a second that most commands don't need.
    from exchange_calendars import get_calendar

    return get_calendar(name, start=(first_day - timedelta(days=31)).isoformat())
