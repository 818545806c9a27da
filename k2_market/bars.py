"""Makes bars: one-minute bars from a clean day's trades, longer bars from the one-minute bars.

A bar is ``[bar_start, bar_end)``, named by its start, in steps from a whole hour at the exchange. Open and close are
the first and last price-eligible trade by trade_order. There are no bars of nothing: an interval without an eligible
trade has no row. One with volume-eligible trades alone has volume and no prices.

Sums are made of whole numbers, the decimals' own units: exact, or kept back. A symbol of which one bar has a sum that
its column can't hold has no bars of that width at all; those of the others are made. ``vwap`` is rounded half up to the
digits of a price once, from sums, so that a bar rolled up from minutes equals one that is built from the trades.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from k2_market.errors import K2Error
from k2_market.schemas.tables import BARS, DAY, MINUTE, NOTIONAL, VOLUME, BarInterval
from k2_market.trades.order import TRADE_ORDER, in_trade_order


class BarOverflowError(K2Error):
    """Tells why a symbol's bars are kept back: a sum of one of them is too large for its column.

    Attributes:
        symbol: The symbol.
    """

    def __init__(self, message: str, symbol: str) -> None:
        super().__init__(message)
        self.symbol = symbol


KeepBack = Callable[[BarOverflowError], object]
"""Is called for each symbol whose bars are kept back."""


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
_SUMS = ("notional", "volume", "priced_volume")
_WIDEST = 38
"""Digits of a decimal: NOTIONAL and VOLUME both have all of them."""
_NEAR_TO_WIDEST = 1.5 * 10.0**_WIDEST
"""A float sum below it, however it was rounded, is that of a whole-number sum that has not overflowed 128 bits."""


def minute_bars(trades: pa.Table, grid_start: datetime, keep_back: KeepBack | None = None) -> pa.Table:
    """Make the one-minute bars of a day.

    Args:
        trades: ``TRADES`` of one trading day. Any order of rows; that of symbol and trade_order is the quickest.
        grid_start: A whole hour at the exchange from which minutes are counted, in both directions
            (``TradingCalendar.grid_start``).
        keep_back: Called for each symbol that has no bars, since its sums are too large.

    Returns:
        ``BARS``, ordered by symbol and bar_start.
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
        )
        .with_columns(_float(column).alias(f"rough_{column}") for column in _SUMS[1:]),
        MINUTE.width,
        MINUTE.name,
        keep_back,
    )


def roll_up(
    minute_bars: pa.Table,
    interval: BarInterval,
    start: datetime,
    day_end: datetime,
    keep_back: KeepBack | None = None,
) -> pa.Table:
    """Make longer bars out of a day's one-minute bars; equal to what the trades themselves would give.

    Args:
        minute_bars: ``BARS`` of one minute of one trading day, in any order.
        interval: The width. ``DAY`` makes one bar a symbol, ``[start, day_end)``, of all that belongs to the trading
            day, at whatever hour.
        start: When the trading day starts, for ``DAY``; for other widths, which are steps from there in both
            directions, a whole hour at the exchange (``TradingCalendar.grid_start``).
        day_end: When the next trading day starts: usually 23, 24 or 25 hours after this one.
        keep_back: Called for each symbol that has no bars, since its sums are too large.

    Returns:
        ``BARS``, ordered by symbol and bar_start.
    """
    bar_start = pl.lit(start) if interval == DAY else _slot_start("bar_start", interval.width, start)
    rough = [f"rough_{column}" for column in _SUMS]
    return _bars(
        _frame(minute_bars)
        .sort("symbol", "bar_start")
        .lazy()
        .with_columns(
            bar_start.cast(pl.Datetime("us", "UTC")).alias("bar_start"),
            *(_units(price) for price in ("open", "high", "low", "close")),
            *(pl.col(column).reinterpret(dtype=pl.Int128) for column in _SUMS),
        )
        .with_columns(_float(column).alias(f"rough_{column}") for column in _SUMS)
        .group_by("symbol", "bar_start", maintain_order=True)
        .agg(
            pl.col("trade_date").first(),
            pl.col("open").first(ignore_nulls=True),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(ignore_nulls=True),
            pl.col(*_SUMS, *rough, "trade_count", "priced_count").sum(),
        ),
        day_end - start if interval == DAY else interval.width,
        interval.name,
        keep_back,
    )


def _bars(sums: pl.LazyFrame, width: timedelta, name: str, keep_back: KeepBack | None) -> pa.Table:
    """Make ``BARS`` out of the whole-number sums of each bar."""
    # NOTIONAL has the digits of PRICE and QUANTITY together, so units divide into units
    notional, volume = pl.col("notional"), pl.col("priced_volume")
    down, rest = notional // volume, notional % volume
    # a half goes away from zero, as Decimal's ROUND_HALF_UP has it; the rest of a division is never negative
    up = pl.when(notional >= 0).then(rest >= volume - rest).otherwise(rest > volume - rest)
    half_up = (down + up.cast(pl.Int128)).cast(pl.Int64)
    bars = _without_overflow(sums.collect(), name, keep_back).with_columns(
        (pl.col("bar_start") + width).alias("bar_end"),
        pl.when(volume > 0).then(half_up).alias("vwap"),
    )
    decimals = [
        pl.col(field.name).cast(pl.Int128).reinterpret(dtype=pl.Decimal(field.type.precision, field.type.scale))
        for field in BARS
        if pa.types.is_decimal(field.type)
    ]
    return bars.with_columns(decimals).select(BARS.names).to_arrow().cast(BARS)


def _without_overflow(sums: pl.DataFrame, name: str, keep_back: KeepBack | None) -> pl.DataFrame:
    """Leave out the symbols of which a bar's sum does not fit its column."""
    # A float sum tells that a whole-number sum has overflowed; one that has not tells exactly whether it fits.
    largest = pl.lit(10**_WIDEST - 1, pl.Int128)
    fits = {
        column: (pl.col(f"rough_{column}").abs() < _NEAR_TO_WIDEST) & pl.col(column).is_between(-largest, largest)
        for column in _SUMS
    }
    too_large = sums.filter(~pl.all_horizontal(*fits.values()))
    if too_large.is_empty():
        return sums
    first_of_each = too_large.unique("symbol", keep="first", maintain_order=True)
    if keep_back is not None:
        for bar in first_of_each.iter_rows(named=True):
            keep_back(_overflow(bar, name))
    return sums.filter(~pl.col("symbol").is_in(first_of_each["symbol"].implode()))


def _overflow(bar: dict[str, Any], name: str) -> BarOverflowError:
    scales = {"notional": NOTIONAL.scale, "volume": VOLUME.scale, "priced_volume": VOLUME.scale}
    column = max(_SUMS, key=lambda each: abs(bar[f"rough_{each}"]))
    return BarOverflowError(
        f"the {name} bars of {bar['symbol']!r} are kept back: {column} of the one from {bar['bar_start'].isoformat()} "
        f"is about {bar[f'rough_{column}'] / 10 ** scales[column]:.3g}; expected below 1e{_WIDEST - scales[column]}. "
        "Look for a wrong price or quantity among its trades",
        str(bar["symbol"]),
    )


def _slot_start(column: str, width: timedelta, grid_start: datetime) -> pl.Expr:
    """Return the last step of the grid at or before an instant; modulo rounds down before ``grid_start`` too."""
    since_start = pl.col(column).to_physical() - (grid_start - _EPOCH) // _MICROSECOND
    return pl.col(column) - pl.duration(microseconds=since_start % (width // _MICROSECOND))


def _units(column: str) -> pl.Expr:
    """Return a decimal of at most 18 digits as the whole number of its units."""
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
