"""Verification of a day's bars: the published trades read and gone through one by one, the published bars beside."""

from datetime import date, timedelta

from pyiceberg.catalog import Catalog

from k2_market.bar_recomputation import bar_violations, plain_bars
from k2_market.feed import Feed
from k2_market.invariants import Invariant, Verification, Violation
from k2_market.table_schemas import BAR_INTERVALS
from k2_market.trading_calendar import TradingCalendar
from k2_resources.day_table import DayTable


def prove_bars(catalog: Catalog, feed: Feed, day: date) -> Verification:
    """Whether the published bars of a day are what its published trades amount to.

    Args:
        catalog: Where the tables are.
        feed: Whose they are.
        day: The trading day.
    """
    calendar = TradingCalendar.of(feed)
    start, end = calendar.day_start(day), calendar.day_start(day + timedelta(days=1))
    trades = DayTable(catalog, feed.name, "trades").read_day(day)
    violations: list[Violation] = []
    bars = 0
    for interval in BAR_INTERVALS:
        published = DayTable(catalog, feed.name, interval.table).read_day(day)
        violations += bar_violations(interval, published, plain_bars(trades, interval, start, end))
        bars += published.num_rows
    return Verification(
        subject=f"bars of {feed.name} on {day}",
        looked_at={Invariant.BARS: f"{bars:,} bars, {trades.num_rows:,} trades"},
        violations=tuple(violations),
    )
