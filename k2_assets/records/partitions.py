"""Make the partitions of a feed's assets: the sessions of its exchange, in its own time zone (#061).

One object a feed, shared by all its assets and checks: Dagster compares them by value, and partitioned checks
demand the very definition of their asset. Rows that are dated on a closed date have no partition of their own: they
are built, checked and reported with the next session.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar

import dagster as dg

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar

PARTITION_ROWS = "dagster/partition_row_count"
CLOSED_DATES = "closed_dates"
"""Names, in a materialization, the rows of its session's table that are dated on closed dates before it."""

_SESSIONS_AHEAD = 2
"""The present session may be that of tomorrow's date (an evening session, a clock a little ahead), and rows may come
for the session after the present one (``DayWindow.of``)."""
_CRON_OF_WEEKDAY = {5: "0 0 * * 6", 6: "0 0 * * 0"}

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Closures:
    """Dates on which a feed's exchange holds no session.

    Attributes:
        weekdays: Saturday (5) and Sunday (6), where no session lies on any of them.
        dates: The others, as far as the calendar knows them: about a year ahead.
    """

    weekdays: tuple[int, ...]
    dates: tuple[date, ...]

    @classmethod
    def of(cls, feed: Feed) -> "Closures":
        """Look them up in the feed's calendar."""
        calendar = TradingCalendar.of(feed)
        weekdays = tuple(day for day in _CRON_OF_WEEKDAY if day not in calendar.session_weekdays())
        return cls(weekdays, tuple(day for day in calendar.closed_dates() if day.weekday() not in weekdays))


def trading_days(feed: Feed, closures: Closures | None = None) -> dg.DailyPartitionsDefinition:
    """Make daily partitions of a feed's sessions, from its first one up to the last that may have rows now.

    Args:
        feed: The feed.
        closures: Its closed dates, where they are known already: to look them up takes half a second.
    """
    closed = closures or Closures.of(feed)
    dates = [datetime(day.year, day.month, day.day) for day in closed.dates]
    return dg.DailyPartitionsDefinition(
        start_date=feed.start_date.isoformat(),
        timezone=feed.timezone,
        end_offset=1 + _SESSIONS_AHEAD,
        exclusions=[*(_CRON_OF_WEEKDAY[day] for day in closed.weekdays), *dates],
    )


def day_of(partition_key: str) -> date:
    """Return the trading day that a partition key names."""
    return date.fromisoformat(partition_key)


def dates_of_session(calendar: TradingCalendar, session: date, filled: Collection[date]) -> tuple[date, ...]:
    """List the dates that are made and checked together as one session.

    Args:
        calendar: The feed's.
        session: The trading day.
        filled: Dates that have rows.

    Returns:
        Those of the session's dates that have rows; the session alone where none has.
    """
    return tuple(day for day in calendar.dates_reported_with(session) if day in filled) or (session,)


def by_session(calendar: TradingCalendar, values: Mapping[date, _Value]) -> dict[date, dict[date, _Value]]:
    """Group values of dates by the session with which each date is reported, in order."""
    grouped: dict[date, dict[date, _Value]] = {}
    for day in sorted(values):
        grouped.setdefault(calendar.reporting_session(day), {})[day] = values[day]
    return grouped


def latest_of_session(calendar: TradingCalendar, numbers: Mapping[date, int]) -> dict[date, int]:
    """Give each session the greatest number of its dates.

    Records of a date that is a partition no more, or was not one when they were made, so count for its session.
    """
    return {session: max(dates.values()) for session, dates in by_session(calendar, numbers).items()}


def rows_metadata(session: date, rows: Mapping[date, int]) -> dict[str, int | dg.TableMetadataValue]:
    """Make the metadata that counts the rows of a session's dates, and names the closed ones among them."""
    closed = {day: count for day, count in rows.items() if day != session}
    return {PARTITION_ROWS: sum(rows.values()), **({CLOSED_DATES: _table_of(closed)} if closed else {})}


def _table_of(rows: Mapping[date, int]) -> dg.TableMetadataValue:
    records = [dg.TableRecord({"trade_date": day.isoformat(), "rows": count}) for day, count in sorted(rows.items())]
    columns = [dg.TableColumn("trade_date", "string"), dg.TableColumn("rows", "int")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def seconds(measured: float) -> float:
    """Round a duration to what a person reads: milliseconds."""
    return round(measured, 3)


def sessions_of(calendar: TradingCalendar, days: Iterable[date]) -> tuple[date, ...]:
    """List the sessions with which some dates are reported, in order."""
    return tuple(sorted({calendar.reporting_session(day) for day in days}))
