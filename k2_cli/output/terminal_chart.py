"""Draws bars in the terminal: candles above, volume below."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    import pyarrow as pa

_PRICE_ROWS = 14
_VOLUME_ROWS = 4
_WIDEST_STEP = 3
_TICK_COLUMNS = 16

_UP, _DOWN, _AXIS = "green", "red", "dim"

# What the upper and the lower half of a cell hold: nothing, the wick or the body.
_NOTHING, _WICK, _BODY = range(3)
_GLYPHS = {
    (_NOTHING, _NOTHING): " ",
    (_NOTHING, _WICK): "╷",
    (_NOTHING, _BODY): "╻",
    (_WICK, _NOTHING): "╵",
    (_WICK, _WICK): "│",
    (_WICK, _BODY): "╽",
    (_BODY, _NOTHING): "╹",
    (_BODY, _WICK): "╿",
    (_BODY, _BODY): "┃",
}
_EIGHTHS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Candle:
    """One bar, or several neighbours as one; floats are exact enough to draw."""

    day: date
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


def candle_chart(bars: pa.Table, width: int) -> Text:
    """Return the chart: empty if no bar has a price.

    Args:
        bars: Rows of ``BARS`` in time order; those without a price are left out.
        width: Columns that the terminal has. Where there are more bars, neighbours are drawn as one candle.
    """
    every = as_candles(bars)
    if not every:
        return Text()
    low, high = min(candle.low for candle in every), max(candle.high for candle in every)
    digits = max(_digits(low), _digits(high))
    margin = max(len(f"{high:,.{digits}f}"), 6)
    columns = max(width - margin - 2, 10)
    candles = merge(every, columns)
    step = max(1, min(_WIDEST_STEP, columns // len(candles)))
    lines = [
        *_price_lines(candles, low, high, step, margin, digits),
        *_volume_lines(candles, step, margin),
        _time_line(candles, step, margin, columns),
    ]
    if len(candles) < len(every):
        lines.append(Text(f"{'':{margin + 2}}a candle is {-(-len(every) // columns)} bars", style=_AXIS))
    return Text("\n").join(lines)


def as_candles(bars: pa.Table) -> list[Candle]:
    """Return every bar that has a price, as a candle."""
    rows = bars.select(["trade_date", "bar_start", "open", "high", "low", "close", "volume"]).to_pylist()
    return [
        Candle(
            row["trade_date"],
            row["bar_start"],
            *(float(row[name]) for name in ("open", "high", "low", "close", "volume")),
        )
        for row in rows
        if row["open"] is not None
    ]


def merge(candles: list[Candle], most: int) -> list[Candle]:
    """Return at most so many candles, each made of the same number of neighbours; the last may have fewer."""
    each = -(-len(candles) // most)
    groups = [candles[at : at + each] for at in range(0, len(candles), each)]
    return [
        Candle(
            day=group[0].day,
            start=group[0].start,
            open=group[0].open,
            high=max(candle.high for candle in group),
            low=min(candle.low for candle in group),
            close=group[-1].close,
            volume=sum(candle.volume for candle in group),
        )
        for group in groups
    ]


def _price_lines(candles: list[Candle], low: float, high: float, step: int, margin: int, digits: int) -> list[Text]:
    halves = 2 * _PRICE_ROWS
    scale = (halves - 1) / (high - low) if high > low else 0.0

    def half(price: float) -> int:
        return round((price - low) * scale)

    def glyph(candle: Candle, lower: int) -> str:
        body = sorted((half(candle.open), half(candle.close)))
        wick = (half(candle.low), half(candle.high))
        upper_half, lower_half = (
            _BODY if body[0] <= at <= body[1] else _WICK if wick[0] <= at <= wick[1] else _NOTHING
            for at in (lower + 1, lower)
        )
        return _GLYPHS[upper_half, lower_half]

    labels = {0: high, _PRICE_ROWS // 2: low + (high - low) / 2, _PRICE_ROWS - 1: low}
    lines = []
    for row in range(_PRICE_ROWS):
        lower = halves - 2 * row - 2
        line = _margin(f"{labels[row]:,.{digits}f}" if row in labels else "", margin)
        line.append_text(_coloured(candles, [glyph(candle, lower).ljust(step) for candle in candles]))
        lines.append(line)
    return lines


def _volume_lines(candles: list[Candle], step: int, margin: int) -> list[Text]:
    most = max(candle.volume for candle in candles)
    scale = 8 * _VOLUME_ROWS / most if most else 0.0
    lines = []
    for row in range(_VOLUME_ROWS):
        below = 8 * (_VOLUME_ROWS - row - 1)
        line = _margin(_count(most) if row == 0 else "0" if row == _VOLUME_ROWS - 1 else "", margin)
        # A volume that is not nothing is seen, however small.
        heights = [max(round(candle.volume * scale), 1 if candle.volume else 0) for candle in candles]
        cells = [_EIGHTHS[max(0, min(8, height - below))].ljust(step) for height in heights]
        line.append_text(_coloured(candles, cells))
        lines.append(line)
    return lines


def _time_line(candles: list[Candle], step: int, margin: int, columns: int) -> Text:
    one_day = candles[0].day == candles[-1].day
    line = ""
    for at in range(0, len(candles), max(1, _TICK_COLUMNS // step)):
        label = f"{candles[at].start:%H:%M}" if one_day else str(candles[at].day)
        if at * step + len(label) <= columns:
            line = line.ljust(at * step) + f"{label} "
    return Text(f"{'':{margin}}  {line}", style=_AXIS)


def _margin(label: str, width: int) -> Text:
    return Text().append(f"{label:>{width}} {'┤' if label else '│'}", style=_AXIS)


def _coloured(candles: list[Candle], cells: list[str]) -> Text:
    """Return cells in the colours of their candles; neighbours of one colour are written as one."""
    line = Text()
    rising = [candle.close >= candle.open for candle in candles]
    for rises, run in groupby(zip(rising, cells, strict=True), key=itemgetter(0)):
        line.append("".join(cell for _, cell in run), style=_UP if rises else _DOWN)
    return line


def _digits(price: float) -> int:
    """Return digits after the point that show a price of this size: two, or three that are not zero."""
    return 2 if price == 0 or abs(price) >= 1 else 2 - math.floor(math.log10(abs(price)))


def _count(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.4g}"
