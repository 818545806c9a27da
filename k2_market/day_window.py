"""The trading days that a feed's tables may hold, and the day a message without one of its own is filed under."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

NO_TIMESTAMP = -1
"""Kafka's own mark for a record without a timestamp."""

_LATEST_MS = 253_402_300_799_999 - 86_400_000
"""A day before the year 10000: what ``datetime`` can hold in any time zone."""


@dataclass(frozen=True)
class DayWindow:
    """The trading days that a feed's tables may hold, first and last included.

    Attributes:
        zone: The exchange's time zone.
        first: The feed's first day.
        last: The last day that there can be a trade of: today, or the next day where sessions start the evening before.
    """

    zone: ZoneInfo
    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        """Whether a day lies within the window."""
        return self.first <= day <= self.last

    def day_of(self, timestamp_ms: int) -> date:
        """The day under which a dead letter is filed: its record timestamp's local date, clamped into the window.

        A record without a timestamp (-1) goes to the last day, where someone will look soon.

        Args:
            timestamp_ms: Milliseconds since 1970 UTC.
        """
        if timestamp_ms == NO_TIMESTAMP or timestamp_ms > _LATEST_MS:
            return self.last
        if timestamp_ms < 0:
            return self.first
        local = datetime.fromtimestamp(timestamp_ms // 1000, UTC).astimezone(self.zone).date()
        return min(max(local, self.first), self.last)

    def __str__(self) -> str:
        """As messages name it: ``2014-03-10..2026-11-24``."""
        return f"{self.first}..{self.last}"
