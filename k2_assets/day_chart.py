"""Draws a day's bars as a small picture for the metadata of their materialization.

One symbol is drawn as candles over its volume; several as the change of the busiest since their first bar, over the
turnover of all. Where a symbol has one or two bars, as a daily bar, each symbol is a candle of its own.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, tzinfo
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (8.0, 4.2)
_DPI = 120
_PALETTE_COLOURS = 48
"""A PNG of so few colours is a third of the size, and looks the same."""

_BUSIEST_LINES = 5
_BUSIEST_CANDLES = 16
_FEW_BARS = 2
_MOST_CANDLES = 480

_LINES = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2")
_UP, _DOWN = "#16a34a", "#dc2626"
_INK, _FAINT, _GRID, _FILL = "#0f172a", "#64748b", "#e2e8f0", "#cbd5e1"


def day_chart_markdown(bars: pa.Table, title: str, zone: tzinfo = UTC) -> str:
    """Return the chart as a Markdown image; empty where there is nothing to draw.

    Args:
        bars: Rows of ``BARS`` of one trading day and width, of any number of symbols.
        title: What stands above it, as ``asx · 2014-03-11 · 1m bars``.
        zone: The time zone of the time axis; the exchange's own says most.
    """
    png = day_chart_png(bars, title, zone)
    if png is None:
        return ""
    described = title.replace("[", "(").replace("]", ")")
    return f"![{described}](data:image/png;base64,{b64encode(png).decode()})"


def day_chart_png(bars: pa.Table, title: str, zone: tzinfo = UTC) -> bytes | None:
    """Return the chart as a PNG; None where no bar has a price. Arguments as for ``day_chart_markdown``."""
    priced = _priced(bars)
    if priced.is_empty():
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The object interface: pyplot would keep every figure in a registry of its own.
    with rc_context({"font.size": 8, "text.color": _INK, "xtick.color": _FAINT, "ytick.color": _FAINT}):
        figure = Figure(figsize=_INCHES, dpi=_DPI)
        figure.suptitle(_plain(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
        if priced["start"].n_unique() <= _FEW_BARS:
            _draw_symbols(figure, priced)
        elif priced["symbol"].n_unique() == 1:
            _draw_one(figure, priced, zone)
        else:
            _draw_busiest(figure, priced, zone)
        return _png(figure)


def _priced(bars: pa.Table) -> pl.DataFrame:
    """Return bars that have a price, in time order; floats, which are exact enough to draw."""
    columns = ["symbol", "bar_start", "bar_end", "open", "high", "low", "close", "volume", "notional"]
    frame = pl.DataFrame(pl.from_arrow(bars.select(columns)))
    return (
        frame.filter(pl.col("close").is_not_null())
        .with_columns(pl.col("open", "high", "low", "close", "volume", "notional").cast(pl.Float64))
        .rename({"bar_start": "start", "bar_end": "end"})
        .sort("start", "symbol")
    )


def _draw_busiest(figure: Figure, bars: pl.DataFrame, zone: tzinfo) -> None:
    above, below = _two_panels(figure, zone)
    symbols = _by_notional(bars)
    busiest = symbols[:_BUSIEST_LINES]
    day_end = bars["end"].max()
    ends: list[tuple[str, float, str]] = []
    for symbol, colour in zip(busiest, _LINES, strict=False):
        own = bars.filter(pl.col("symbol") == symbol)
        first = own["open"][0]
        change = [0.0, *(_change(close, first) for close in own["close"])]
        # A price stands until the next one.
        times, standing = [own["start"][0], *own["end"], day_end], [*change, change[-1]]
        above.plot(times, standing, drawstyle="steps-post", color=colour, linewidth=1.2)
        ends.append((f"{_plain(symbol)} {_percent(change[-1], 2)}", change[-1], colour))
    above.axhline(0, color=_FAINT, linewidth=0.6)
    above.yaxis.set_major_formatter(lambda value, _: _percent(value, 1))
    _label_ends(above, ends)
    which = f"the {len(busiest)} busiest of {len(symbols):,} symbols" if len(symbols) > len(busiest) else "every symbol"
    _note(above, f"change since the first bar, {which}")
    turnover = bars.group_by("start", maintain_order=True).agg(pl.col("notional").sum(), pl.col("end").first())
    _draw_columns(below, turnover, "notional", [_FILL] * turnover.height)
    _note(below, f"turnover of all symbols, {_total(bars['notional'])} in all; times are {zone}")


def _draw_one(figure: Figure, bars: pl.DataFrame, zone: tzinfo) -> None:
    above, below = _two_panels(figure, zone)
    colours = [_UP if close >= open_ else _DOWN for open_, close in zip(bars["open"], bars["close"], strict=True)]
    if bars.height <= _MOST_CANDLES:
        middle = bars["start"] + (bars["end"] - bars["start"]) / 2
        above.vlines(middle, bars["low"], bars["high"], colors=colours, linewidth=0.7)
        height = (bars["close"] - bars["open"]).abs()
        lower = bars.select(pl.min_horizontal("open", "close")).to_series()
        # A bar that closes where it opened is still a line.
        least = max(max(bars["high"]) - min(bars["low"]), 1e-9) / 400
        width = (bars["end"] - bars["start"]) * 0.7
        above.bar(middle, height.clip(least), width=width, bottom=lower, color=colours)
    else:
        above.fill_between(bars["end"], bars["low"], bars["high"], color=_FILL, linewidth=0, step="pre")
        above.plot(bars["end"], bars["close"], color=_LINES[0], linewidth=1)
    _note(above, f"{_plain(bars['symbol'][0])}: last price {bars['close'][-1]:,.8g}")
    _draw_columns(below, bars, "volume", colours)
    _note(below, f"volume, {_total(bars['volume'])} in all; times are {zone}")


def _draw_symbols(figure: Figure, bars: pl.DataFrame) -> None:
    symbols = _by_notional(bars)
    shown = symbols[:_BUSIEST_CANDLES]
    figure.set_layout_engine("constrained")  # the symbols' names may be long
    axes = figure.add_subplot()
    for row, symbol in enumerate(shown):
        own = bars.filter(pl.col("symbol") == symbol)
        first, last = own["open"][0], own["close"][-1]
        lowest, highest, change = (_change(value, first) for value in (min(own["low"]), max(own["high"]), last))
        colour = _UP if change >= 0 else _DOWN
        axes.plot([lowest, highest], [row, row], color=colour, linewidth=1.2, solid_capstyle="butt")
        axes.barh(row, change, height=0.55, color=colour)
        if _percent(change, 2) == _percent(0, 2):
            axes.plot(change, row, marker="|", markersize=13, markeredgewidth=2, color=colour)
        axes.annotate(
            f"{last:,.8g}   {_total(own['notional'])}",
            (1, row),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=_FAINT,
        )
    axes.set_yticks(range(len(shown)), [_plain(symbol) for symbol in shown], color=_INK)
    axes.set_ylim(max(len(shown), 5) - 0.4, -0.6)
    axes.axvline(0, color=_FAINT, linewidth=0.6)
    axes.xaxis.set_major_formatter(lambda value, _: _percent(value, 1))
    _dress(axes, grid="x")
    which = f"the {len(shown)} busiest of {len(symbols):,} symbols" if len(symbols) > len(shown) else "every symbol"
    _note(axes, f"change from open, {which}; beside it the last price and the turnover")


def _change(price: float, first: float) -> float:
    """Give the change since the first price in per cent of its size: a rise from below zero is a rise.

    Where the first price is zero it is in hundredths of a unit.
    """
    return (price - first) / (abs(first) or 1.0) * 100


def _two_panels(figure: Figure, zone: tzinfo) -> tuple[Axes, Axes]:
    from matplotlib.dates import AutoDateLocator, DateFormatter

    # Placed by hand: an engine that measures every label first takes as long as drawing does.
    figure.subplots_adjust(left=0.065, right=0.89, top=0.86, bottom=0.07, hspace=0.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    below.xaxis.set_major_locator(AutoDateLocator(tz=zone, maxticks=9))  # type: ignore[no-untyped-call]
    below.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))  # type: ignore[no-untyped-call]
    below.yaxis.set_major_formatter(lambda value, _: _short(value))
    below.locator_params(axis="y", nbins=2)
    above.tick_params(axis="x", length=0)
    for axes in (above, below):
        _dress(axes, grid="y")
        axes.margins(x=0.01)
    return above, below


def _draw_columns(axes: Axes, bars: pl.DataFrame, column: str, colours: Sequence[str]) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.dates import date2num

    # One collection, where `bar` makes an artist of every column.
    left, end = (date2num(bars[edge].to_numpy()) for edge in ("start", "end"))  # type: ignore[no-untyped-call]
    right, top, bottom = left + (end - left) * 0.9, bars[column].to_numpy(), np.zeros(bars.height)
    corners = np.stack([left, bottom, left, top, right, top, right, bottom], axis=1).reshape(-1, 4, 2)
    axes.add_collection(PolyCollection(list(corners), facecolors=list(colours), linewidths=0))
    axes.set_ylim(0, max(float(top.max()), 1e-9) * 1.05)


def _label_ends(axes: Axes, ends: list[tuple[str, float, str]]) -> None:
    """Write each line's name at its end, moved up where names would overlap."""
    bottom, top = axes.get_ylim()
    apart = (top - bottom) * 0.075
    at = bottom
    for text, value, colour in sorted(ends, key=lambda end: end[1]):
        at = max(value, at)
        axes.annotate(
            text,
            (1, at),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
        )
        at += apart


def _dress(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_FILL)
    axes.tick_params(length=0)
    axes.grid(axis=grid, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _note(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=8, color=_FAINT, pad=4)


def _by_notional(bars: pl.DataFrame) -> list[str]:
    sums = bars.group_by("symbol").agg(pl.col("notional").sum()).sort("notional", "symbol", descending=[True, False])
    return sums["symbol"].to_list()


def _total(values: pl.Series) -> str:
    return _short(float(values.sum()))


def _short(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _percent(value: float, digits: int) -> str:
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f} %" if rounded else "0 %"


def _plain(text: str) -> str:
    """Return a text without matplotlib's formulas: a symbol may hold dollar signs."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    from PIL import Image

    drawn, written = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(_PALETTE_COLOURS).save(written, "PNG", optimize=True)
    return written.getvalue()
