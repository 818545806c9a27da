"""Checks a file's rows before any of them is sent: symbols, times, prices and quantities within bounds.

A message that is wrong in one of these ways would do harm beyond itself: the broker refuses a whole batch for one
record too far ahead, and a day outside the feed's range has no partition to go to.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import Feed, PriceRange
from k2_market.feeds.trading_calendar import LONGEST_CLOSURE, TradingCalendar
from k2_market.sources.table import SourceTable
from k2_market.values.symbols import symbol_fault

LONGEST_AHEAD = timedelta(hours=1)
"""Kafka's ``message.timestamp.after.max.ms``: how far a record's time may lie ahead of the broker's clock."""

LATEST = datetime(2262, 1, 1, tzinfo=UTC)
"""Nanoseconds since 1970 end in 2262; later times can't be read everywhere."""

_LONGEST_DAY_SHIFT = LONGEST_CLOSURE.days
"""Days that a trading day may lie from the local date of the trade: evening sessions, over holidays."""


def refuse_unsendable(
    table: SourceTable,
    rows: pl.DataFrame,
    feed: Feed,
    now: datetime,
    time_column: str,
    quantity_column: str = "quantity",
) -> None:
    """Raise on the first row of a file that must not be sent.

    Args:
        table: The file, to name the row from.
        rows: Its rows, as ``SOURCE_TRADE``.
        feed: Where they are to go.
        now: The present, for times ahead of it.
        time_column: The file's column that holds the time.
        quantity_column: The one that holds the quantity.

    Raises:
        SourceFileError: A time not after 1970, beyond 2262 or more than an hour ahead; a trading day before the
            feed's first, after the session that comes next or away from its time; something that is no symbol; a price
            that the feed may not have; a quantity below zero.
    """
    time = rows["exchange_timestamp_us"]
    table.refuse_unless(time > 0, time_column, "a time after 1970-01-01")
    table.refuse_unless(time < _microseconds(LATEST), time_column, f"a time before {LATEST:%Y-%m-%d}")
    latest = now + LONGEST_AHEAD
    table.refuse_unless(
        time <= _microseconds(latest),
        time_column,
        f"a time up to an hour ahead ({latest.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}); the broker would refuse the whole "
        "batch, so nothing was sent",
    )
    _refuse_days(table, rows, feed, now, time_column)
    _refuse_symbols(table, rows)
    _refuse_amounts(table, rows, feed, quantity_column)


def _refuse_days(table: SourceTable, rows: pl.DataFrame, feed: Feed, now: datetime, time_column: str) -> None:
    days = rows["trade_date"]
    column = "trade_date" if "trade_date" in table else time_column
    table.refuse_unless(
        days >= feed.start_date, column, f"a trading day from feed {feed.name}'s start_date, {feed.start_date}, on"
    )
    last = DayWindow.of(feed, now).last
    table.refuse_unless(days <= last, column, f"a trading day up to {last}, the session after the present one")
    shift = (days - _local_dates(rows["exchange_timestamp_us"], feed)).dt.total_days().abs()
    table.refuse_unless(
        shift <= _LONGEST_DAY_SHIFT, column, f"a trading day within {_LONGEST_DAY_SHIFT} days of the trade's time"
    )


def _refuse_symbols(table: SourceTable, rows: pl.DataFrame) -> None:
    if "symbol" not in table:
        return
    for symbol in rows["symbol"].unique(maintain_order=True):
        fault = symbol_fault(symbol)
        if fault is not None:
            table.refuse_unless(rows["symbol"] != symbol, "symbol", f"a symbol: {fault}")


def _refuse_amounts(table: SourceTable, rows: pl.DataFrame, feed: Feed, quantity_column: str) -> None:
    """Raise on a price or quantity that can't be one; those of a cancel mean nothing."""
    cancels = rows["action"] == "CANCEL"
    table.refuse_unless(
        cancels | (rows["quantity"] >= 0),
        quantity_column,
        "a quantity of zero or more. Is the sign the side? Then write SELL into a column side, and no sign",
    )
    if feed.price.may_be is PriceRange.POSITIVE:
        table.refuse_unless(
            cancels | (rows["price"] > 0),
            "price",
            'a price above zero. If prices of the feed may be zero or less, say so in its file: [price] may_be = "any"',
        )


def trading_days(time_us: pl.Series, feed: Feed) -> pl.Series:
    """Give the trading days of trades that name none, by their times and the feed's calendar."""
    return TradingCalendar.of(feed).trading_days_of(time_us)


def _local_dates(time_us: pl.Series, feed: Feed) -> pl.Series:
    return time_us.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(feed.timezone).dt.date()


def _microseconds(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000
