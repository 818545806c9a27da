"""Reads the sessions of an ``exchange_calendars`` calendar, as plain dates and instants."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from k2_market.errors import K2Error

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

Span = tuple[datetime, datetime]
"""From one instant up to another, the second excluded."""

_BEFORE_FIRST_DAY = timedelta(days=31)
"""Reach of a calendar before a feed's first day, where it has one: for the trading day before it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_A_TIME = -(2**63)
"""pandas' NaT as a whole number."""


class CalendarUnavailable(K2Error):
    """The session calendar that a feed names can't be had; ``key`` is the key of the feed's file that is to change."""

    def __init__(self, key: Literal["calendar", "start_date"], message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Session:
    """The hours of a trading day, ``[open, close)`` less its breaks, as UTC instants.

    Attributes:
        open: When it opens; for an evening session that is the day before.
        close: When it closes for the day.
        breaks: The pauses in between, such as lunch.
    """

    open: datetime
    close: datetime
    breaks: tuple[Span, ...] = ()

    @property
    def open_spans(self) -> tuple[Span, ...]:
        """The hours without the breaks."""
        starts = (self.open, *(end for _, end in self.breaks))
        ends = (*(start for start, _ in self.breaks), self.close)
        return tuple(zip(starts, ends, strict=True))


@dataclass(frozen=True)
class SessionTable:
    """The sessions that a calendar knows, by trading day.

    Days beyond what it knows (``exchange_calendars`` computes about a year ahead, some calendars end at a fixed date)
    count as sessions from Monday to Friday with the hours' beginning of the nearest one known, so that a holiday that
    is not known yet delays nothing.

    Attributes:
        zone: The exchange's own time zone.
        sessions: By trading day, in order.
    """

    zone: ZoneInfo
    sessions: Mapping[date, Session]

    @property
    def first(self) -> date:
        """Give the first trading day that is known."""
        return self._days[0]

    @property
    def last(self) -> date:
        """Give the last trading day that is known."""
        return self._days[-1]

    @cached_property
    def _days(self) -> tuple[date, ...]:
        return tuple(self.sessions)

    def knows(self, day: date) -> bool:
        """Say whether the calendar reaches a day."""
        return self.first <= day <= self.last

    def is_session(self, day: date) -> bool:
        """Say whether the exchange trades on a day; beyond what is known, whether it is a weekday."""
        return day in self.sessions if self.knows(day) else day.weekday() < 5

    def opens(self, day: date) -> datetime:
        """Give the instant at which a session opens, one that is known or not."""
        known = self.sessions.get(day)
        if known is not None:
            return known.open
        nearest = self.last if day > self.last else self.first
        local = self.sessions[nearest].open.astimezone(self.zone)
        return datetime.combine(day - (nearest - local.date()), local.time(), self.zone).astimezone(UTC)

    def within(self, start: datetime, end: datetime, around: date) -> tuple[Span, ...]:
        """Give the open hours between two instants near a day, in order; hours that touch become one."""
        place = bisect_left(self._days, around)
        merged: list[Span] = []
        for day in self._days[max(0, place - 2) : place + 3]:
            for opens, closes in self.sessions[day].open_spans:
                clipped = (max(opens, start), min(closes, end))
                if clipped[0] >= clipped[1]:
                    continue
                if merged and merged[-1][1] == clipped[0]:
                    clipped = (merged.pop()[0], clipped[1])
                merged.append(clipped)
        return tuple(merged)

    def leaves_local_dates(self, zone: ZoneInfo) -> bool:
        """Say whether a session lies in part outside of its own date in a time zone, as evening sessions do."""
        return any(
            session.open.astimezone(zone).date() < day or session.close.astimezone(zone).date() > day
            for day, session in self.sessions.items()
        )


@cache
def session_table(calendar_name: str, first_day: date) -> SessionTable:
    """Read a calendar's sessions from about a month before a feed's first day on.

    Raises:
        CalendarUnavailable: ``exchange_calendars`` does not know the name, can't build the calendar, or it does not
            reach the first day.
    """
    calendar = _calendar_from(calendar_name, first_day)
    table = SessionTable(ZoneInfo(str(calendar.tz)), dict(_sessions(calendar)))
    if table.last < first_day:
        raise _does_not_reach(calendar_name, first_day, f"it knows sessions up to {table.last} only")
    return table


def _calendar_from(name: str, first_day: date) -> "ExchangeCalendar":
    # Imported late: exchange_calendars brings pandas, half a second that most commands don't need.
    from exchange_calendars import get_calendar

    def starting(day: date) -> "ExchangeCalendar":
        return get_calendar(name, start=day.isoformat())

    earlier = first_day - _BEFORE_FIRST_DAY if first_day - date.min > _BEFORE_FIRST_DAY else first_day
    calendar, _ = _built(starting, earlier)
    if calendar is not None:
        return calendar
    calendar, reason = _built(starting, first_day)
    if calendar is not None:
        return calendar
    usual, _ = _built(get_calendar, name)
    if usual is None:
        raise CalendarUnavailable(
            "calendar",
            f"the sessions of {name!r} can't be had: exchange_calendars says {reason}. Name a calendar with the "
            "same holidays and hours, or 24/5 or 24/7, or install a release of exchange_calendars that can build it",
        )
    earliest, latest = usual.bound_min(), usual.last_session.date()
    if first_day > latest:
        raise _does_not_reach(name, first_day, f"it knows sessions up to {latest} only")
    if earliest is not None and first_day < earliest.date():
        raise _does_not_reach(name, first_day, f"it knows sessions from {earliest.date()} on")
    raise _does_not_reach(name, first_day, f"exchange_calendars says {reason}")


def _does_not_reach(name: str, first_day: date, why: str) -> CalendarUnavailable:
    return CalendarUnavailable(
        "start_date", f"calendar {name!r} does not reach {first_day}: {why}. Choose a start_date that it reaches"
    )


def _built(build: Callable[[Any], "ExchangeCalendar"], argument: Any) -> tuple["ExchangeCalendar | None", str]:
    """Build a calendar, or say why it can't be: each of the library's hundred has its own ways to fail."""
    try:
        return build(argument), ""
    except Exception as error:
        text = " ".join(str(error).split()).rstrip(".")
        return None, f"{type(error).__name__}: {text[:200]}{'…' if len(text) > 200 else ''}"


def _sessions(calendar: "ExchangeCalendar") -> Iterator[tuple[date, Session]]:
    columns = (
        calendar.opens_nanos,
        calendar.closes_nanos,
        calendar.break_starts_nanos,
        calendar.break_ends_nanos,
    )
    for label, *times in zip(calendar.sessions, *(column.tolist() for column in columns), strict=True):
        opens, closes, pause, resume = map(_instant, times)
        assert opens is not None
        assert closes is not None
        breaks = () if pause is None or resume is None else ((pause, resume),)
        yield label.date(), Session(opens, closes, breaks)


def _instant(nanoseconds: int) -> datetime | None:
    return None if nanoseconds == _NOT_A_TIME else _EPOCH + timedelta(microseconds=nanoseconds // 1000)
