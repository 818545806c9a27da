"""Recognises times since 1970 that are in another unit than microseconds, by their size.

Between 1973 and the year 5138 a count has 9 to 11 digits in seconds, 12 to 14 in milliseconds, 15 to 17 in microseconds
and 18 to 20 in nanoseconds, so that one is never taken for another.
"""

from datetime import UTC, datetime

SMALLEST_US = 10**14
"""The smallest count that may be microseconds: 1973-03-03."""

LARGEST_US = 10**17
"""Counts from here on are nanoseconds."""

_SMALLEST_SECONDS = 10**8
_LARGEST_SECONDS = 10**11
_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("nanoseconds", 10**9))


def other_unit(count: int) -> str | None:
    """Say which unit a count since 1970 looks to be in, and the time that it then is; None for microseconds.

    Example:
        >>> other_unit(1763632800000)
        'milliseconds (2025-11-20T10:00:00Z)'
    """
    for unit, a_second in _UNITS:
        if _SMALLEST_SECONDS * a_second <= count < _LARGEST_SECONDS * a_second:
            return f"{unit} ({_instant(count // a_second)})"
    return None


def _instant(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
