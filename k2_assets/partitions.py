"""The partitions of a feed's assets: its trading days, in its own time zone, today included.

One object a feed, shared by all its assets and checks: Dagster compares them by value, and partitioned checks
demand the very definition of their asset.
"""

from datetime import date

import dagster as dg

from k2_market.feed import Feed


def trading_days(feed: Feed) -> dg.DailyPartitionsDefinition:
    """Daily partitions from the feed's first day to today."""
    return dg.DailyPartitionsDefinition(start_date=feed.start_date.isoformat(), timezone=feed.timezone, end_offset=1)


def day_of(partition_key: str) -> date:
    """The trading day that a partition key names."""
    return date.fromisoformat(partition_key)
