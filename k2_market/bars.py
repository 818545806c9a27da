"""Bars: minutes out of a clean day's trades, longer ones out of the minutes.

A bar is ``[bar_start, bar_end)``, named by its start, in steps from a whole hour at the exchange. Open and close are
the first and last price-eligible trade by trade_order. There are no bars of nothing: an interval without an eligible
trade has no row. One with volume-eligible trades alone has volume and no prices.

Sums are made of whole numbers, the decimals' own units: exact, or an error. ``vwap`` is rounded half up to the digits
of a price once, from sums, so that a bar rolled up from minutes equals one that is built from the trades.
"""

from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa

from k2_market.errors import K2Error
from k2_market.table_schemas import BARS, DAY, MINUTE, NOTIONAL, BarInterval
from k2_market.trade_order import TRADE_ORDER, in_trade_order


class BarOverflowError(K2Error):
    """The notional of a bar is a number too large for its column."""


READ_FROM_TRADES = (
    "trade_date",
    *TRADE_ORDER,
    "exchange_timestamp",
    "price",
    "quantity",
    "price_eligible",
    "volume_eligible",
)
"""The columns of ``TRADES`` that bars are made of."""

_MICROSECOND = timedelta(microseconds=1)
_LARGEST_NOTIONAL = 10.0**NOTIONAL.precision * (1 - 1e-6)
"""In its own units, less a margin for the rounding of a float sum: below it no whole-number sum has overflowed."""


def minute_bars(trades: pa.Table, grid_start: datetime) -> pa.Table:
    """The one-minute bars of a day.

    Args:
        trades: ``TRADES`` of one trading day. Any order of rows; that of symbol and trade_order is the quickest.
        grid_start: A whole hour at the exchange from which minutes are counted, in both directions
            (``TradingCalendar.grid_start``).

    Returns:
        ``BARS``, ordered by symbol and bar_start.

    Raises:
        BarOverflowError: A bar's notional is more than its column holds.
    """
    ordered = in_trade_order(_frame(trades.select(READ_FROM_TRADES)))
    priced, counted = pl.col("price_eligible"), pl.col("volume_eligible")
    price, quantity = _units("price"), _units("quantity")
    return _bars(
        ordered.lazy()
        .filter(priced | counted)
        .select(
            "trade_date",
            "symbol",
            _slot_start("exchange_timestamp", MINUTE.width, grid_start).alias("bar_start"),
            pl.when(priced).then(price).alias("price"),
            pl.when(priced).then(quantity).alias("priced_volume"),
            pl.when(counted).then(quantity).alias("volume"),
        )
        .with_columns(
            (_wide("price") * _wide("priced_volume")).alias("notional"),
            (_float("price") * _float("priced_volume")).alias("rough_notional"),
        )
        .group_by("symbol", "bar_start", maintain_order=True)
        .agg(
            pl.col("trade_date").first(),
            pl.col("price").first(ignore_nulls=True).alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last(ignore_nulls=True).alias("close"),
            _wide("volume").sum(),
            pl.col("notional").sum(),
            pl.col("rough_notional").sum(),
            _wide("priced_volume").sum(),
            pl.col("volume").count().cast(pl.Int64).alias("trade_count"),
            pl.col("price").count().cast(pl.Int64).alias("priced_count"),
        ),
        width=MINUTE.width,
    )


def roll_up(minute_bars: pa.Table, interval: BarInterval, start: datetime, day_end: datetime) -> pa.Table:
    """Longer bars out of a day's one-minute bars; equal to what the trades themselves would give.

    Args:
        minute_bars: ``BARS`` of one minute of one trading day, in any order.
        interval: The width. ``DAY`` makes one bar a symbol, ``[start, day_end)``, of all that belongs to the trading
            day, at whatever hour.
        start: When the trading day starts, for ``DAY``; for other widths, which are steps from there in both
            directions, a whole hour at the exchange (``TradingCalendar.grid_start``).
        day_end: When the next trading day starts: usually 23, 24 or 25 hours after this one.

    Returns:
        ``BARS``, ordered by symbol and bar_start.

    Raises:
        BarOverflowError: A bar's notional is more than its column holds.
    """
    bar_start = pl.lit(start) if interval == DAY else _slot_start("bar_start", interval.width, start)
    sums = ("volume", "notional", "priced_volume")
    return _bars(
        _frame(minute_bars)
        .sort("symbol", "bar_start")
        .lazy()
        .with_columns(
            bar_start.cast(pl.Datetime("us", "UTC")).alias("bar_start"),
            *(_units(price) for price in ("open", "high", "low", "close")),
            *(pl.col(column).reinterpret(dtype=pl.Int128) for column in sums),
        )
        .with_columns(_float("notional").alias("rough_notional"))
        .group_by("symbol", "bar_start", maintain_order=True)
        .agg(
            pl.col("trade_date").first(),
            pl.col("open").first(ignore_nulls=True),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(ignore_nulls=True),
            pl.col(*sums, "rough_notional", "trade_count", "priced_count").sum(),
        ),
        width=day_end - start if interval == DAY else interval.width,
    )


def _bars(sums: pl.LazyFrame, width: timedelta) -> pa.Table:
    """``BARS`` out of the whole-number sums of each bar."""
    # NOTIONAL has the digits of PRICE and QUANTITY together, so units divide into units
    notional, volume = pl.col("notional"), pl.col("priced_volume")
    down, rest = notional // volume, notional % volume
    half_up = (down + (rest >= volume - rest).cast(pl.Int128)).cast(pl.Int64)
    bars = sums.with_columns(
        (pl.col("bar_start") + width).alias("bar_end"),
        pl.when(volume > 0).then(half_up).alias("vwap"),
    ).collect()
    _refuse_overflow(bars)
    decimals = [
        pl.col(field.name).cast(pl.Int128).reinterpret(dtype=pl.Decimal(field.type.precision, field.type.scale))
        for field in BARS
        if pa.types.is_decimal(field.type)
    ]
    return bars.with_columns(decimals).select(BARS.names).to_arrow().cast(BARS)


def _refuse_overflow(bars: pl.DataFrame) -> None:
    too_large = bars.filter(pl.col("rough_notional") > _LARGEST_NOTIONAL)
    if not too_large.is_empty():
        bar = too_large.row(0, named=True)
        limit = f"1e{NOTIONAL.precision - NOTIONAL.scale}"
        raise BarOverflowError(
            f"the bar of {bar['symbol']!r} from {bar['bar_start'].isoformat()}: notional is about "
            f"{bar['rough_notional'] / 10**NOTIONAL.scale:.3g}; expected below {limit}. "
            "Look for a wrong price or quantity among its trades."
        )


def _slot_start(column: str, width: timedelta, grid_start: datetime) -> pl.Expr:
    """The last step of the grid at or before an instant; modulo rounds down before ``grid_start`` too."""
    since_start = pl.col(column).to_physical() - (grid_start - _EPOCH) // _MICROSECOND
    return pl.col(column) - pl.duration(microseconds=since_start % (width // _MICROSECOND))


def _units(column: str) -> pl.Expr:
    """A decimal of at most 18 digits as the whole number of its units."""
    return pl.col(column).reinterpret(dtype=pl.Int128).cast(pl.Int64)


def _wide(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int128)


def _float(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
