"""Interprets Kafka's record timestamps, which may be absent.

A record timestamp is an int64 that its producer chose: milliseconds since 1970 UTC if it kept to the rule, or
microseconds, or nothing at all. None of them may stop a plan or a figure.
"""

from datetime import UTC, datetime

NO_TIMESTAMP = -1
"""Kafka's own mark for a record without a timestamp."""

END_OF_TIME_MS = 9_214_646_400_000
"""2262-01-01 UTC, where nanoseconds in an int64 end: a record timestamp from there on is as good as none."""


def instant_of(timestamp_ms: int) -> datetime | None:
    """Give the instant of a record timestamp; None where it is negative, or in or after 2262.

    Args:
        timestamp_ms: Milliseconds since 1970 UTC.

    Example:
        >>> instant_of(1_394_000_000_000)
        datetime.datetime(2014, 3, 5, 6, 13, 20, tzinfo=datetime.timezone.utc)
        >>> instant_of(1_394_000_000_000_000) is None
        True
    """
    if not 0 <= timestamp_ms < END_OF_TIME_MS:
        return None
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
