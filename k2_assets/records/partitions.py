"""Defines the partitions of a feed's assets: its trading days, in its time zone, up to the session after the present.

One object a feed, shared by all its assets and checks: Dagster compares them by value, and partitioned checks
demand the very definition of their asset.
"""

from datetime import date

import dagster as dg

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import LONGEST_CLOSURE

_WEEKEND_DAYS = 3
"""From a Friday to the Monday after it."""


def trading_days(feed: Feed) -> dg.DailyPartitionsDefinition:
    """Make daily partitions from the feed's first day to the last that may have rows now (``DayWindow.of``).

    Dagster counts days and knows no sessions. On the evening before a closure the present session may be the one behind
    it, and the next one behind a weekend after that; an exchange that never closes is at most a day ahead of its date.
    """
    days_ahead = 2 if feed.always_open else LONGEST_CLOSURE.days + _WEEKEND_DAYS
    return dg.DailyPartitionsDefinition(
        start_date=feed.start_date.isoformat(), timezone=feed.timezone, end_offset=1 + days_ahead
    )


def day_of(partition_key: str) -> date:
    """The trading day that a partition key names."""
    return date.fromisoformat(partition_key)
