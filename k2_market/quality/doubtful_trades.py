"""Finds trades that look wrong though no rule forbids them, such as a price far from its neighbours.

Prices that leave those around them, days of another scale, trades that are there twice under other ids.
They warn and never keep a day back: what is usual differs from feed to feed. ``docs/checks.md`` has how often each of
them flags trades of real days, and the command that measures it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from statistics import median

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from k2_market.quality.finding import MAX_EXAMPLES, Example, Finding, Severity, Tally
from k2_market.quality.trade_rules import TradeRule
from k2_market.schemas.tables import PRICE

NEIGHBOURS = 25
"""Trades on either side that a trade's price is held against."""

DEVIATIONS = 10
"""Median absolute deviations of its neighbours that a price may lie from their median."""

TICKS = 5
"""Price steps that it may lie from there; without a floor quiet minutes flag every change."""

STEPS = 5
"""Usual changes from one price to the next that it may lie from there, where a day has ``ENOUGH_STEPS``: the prices of
a symbol that is seldom traded go to and fro between bid and ask."""
ENOUGH_STEPS = 10

LEAST_JUMP = 0.01
"""The share of the median that it may lie from there, where a side has enough neighbours."""

FEW_NEIGHBOURS = 5
LEAST_JUMP_OF_FEW = 0.1
"""With fewer neighbours than ``FEW_NEIGHBOURS`` on a side, this share."""

BAND = 0.4
"""The share by which a symbol's median price may differ from the close before; a split of two to one is beyond."""

USUAL_SHARE_WITHOUT_HISTORY = 0.5
LEAST_RISE = 0.05
FEW_REPEATED = 20
"""So few trades alike say nothing, unless they are half of the day."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


def price_jumps(trades: pa.Table) -> Finding:
    """Check that no price leaves its neighbours' and comes back; see ``PRICE_JUMPS``."""
    return PRICE_JUMPS.conclude(_count_jumps(trades))


def _count_jumps(trades: pa.Table) -> Tally:
    eligible = _eligible(trades)
    rows, medians = [], []
    prices = eligible["price"].cast(pl.Float64).to_numpy()
    units = eligible["price"].reinterpret(dtype=pl.Int128).cast(pl.Int64).to_numpy()
    for start, end in _spans(eligible["symbol"]):
        found, near = _jumps(prices[start:end], np.gcd.reduce(units[start:end]) / 10.0**PRICE.scale)
        rows.append(found + start)
        medians.append(near)
    jumps = np.concatenate([np.empty(0, np.int64), *rows])
    near = np.concatenate([np.empty(0), *medians])
    # the farthest first: those beside a wrong price may be flagged with it
    distance = np.abs(prices[jumps] - near) / np.maximum(np.abs(near), 1e-18)
    order = np.argsort(-distance, kind="stable")[:MAX_EXAMPLES]
    shown = tuple(
        _example(row) | {"median_of_neighbours": f"{of_row:.10g}"}
        for row, of_row in zip(eligible[jumps[order]].iter_rows(named=True), near[order], strict=True)
    )
    return Tally({"price_eligible": eligible.height, "jumps": len(jumps)}, (shown,))


def _jumps(prices: _Floats, tick: float) -> tuple[_Ints, _Floats]:
    """Find the prices of one symbol, in order, that leave their neighbours' and come back; with a median of those.

    Args:
        prices: In trade_order.
        tick: The largest step that all of them are multiples of.
    """
    steps = np.abs(np.diff(prices))
    changes = steps[steps > 0]
    floor = max(TICKS * tick, STEPS * float(np.median(changes)) if len(changes) >= ENOUGH_STEPS else 0.0)
    large = steps > np.maximum(floor, LEAST_JUMP * np.minimum(np.abs(prices[1:]), np.abs(prices[:-1])))
    candidates = np.flatnonzero(np.append(large, False) | np.insert(large, 0, False))
    before, after = (_side(prices, candidates, side) for side in (range(-NEIGHBOURS, 0), range(1, NEIGHBOURS + 1)))
    share = np.where(np.minimum(before.count, after.count) < FEW_NEIGHBOURS, LEAST_JUMP_OF_FEW, LEAST_JUMP)
    here = prices[candidates]
    apart = before.is_far(here, floor, share) & after.is_far(here, floor, share)
    apart &= (before.count == 0) | (after.count == 0) | ((here - before.median) * (here - after.median) > 0)
    return candidates[apart], np.where(before.count == 0, after.median, before.median)[apart]


@dataclass(frozen=True)
class _Side:
    """Describes the neighbours on one side of some prices: how many, their median and their median deviation."""

    count: _Ints
    median: _Floats
    deviation: _Floats

    def is_far(self, prices: _Floats, floor: float, share: _Floats) -> NDArray[np.bool_]:
        """Tell which prices are far from their neighbours' median; all are where there are none."""
        least = np.maximum(share * np.abs(self.median), np.maximum(DEVIATIONS * self.deviation, floor))
        far: NDArray[np.bool_] = (self.count == 0) | (np.abs(prices - self.median) > least)
        return far


def _side(prices: _Floats, places: _Ints, offsets: range) -> _Side:
    at = places[:, None] + np.array(offsets)
    inside = (at >= 0) & (at < len(prices))
    values = np.where(inside, prices[np.clip(at, 0, max(len(prices) - 1, 0))], np.nan)
    count = inside.sum(axis=1)
    middle, deviation = np.zeros(len(places)), np.zeros(len(places))
    some = count > 0
    middle[some] = np.nanmedian(values[some], axis=1)
    deviation[some] = np.nanmedian(np.abs(values[some] - middle[some, None]), axis=1)
    return _Side(count, middle, deviation)


def _jumps_found(tally: Tally) -> Finding:
    jumps, eligible = tally.numbers["jumps"], tally.numbers["price_eligible"]
    return Finding(
        check="price_jumps",
        passed=not jumps,
        severity=Severity.WARN,
        description=f"{jumps} of {eligible} price-eligible trades leave the prices around them and come back.",
        numbers=tally.numbers,
        examples=tally.shown,
        sizes=frozenset({"price_eligible"}),
    )


PRICE_JUMPS = TradeRule(lambda _, trades: _count_jumps(trades), _jumps_found)
"""The rule that no price leaves those around it and comes back.

A price-eligible trade is flagged if it lies, on the same side, further from the median of the ``NEIGHBOURS`` trades
before and from that of those after it than each of ``DEVIATIONS`` of their median absolute deviations, ``TICKS`` price
steps, ``STEPS`` usual changes and ``LEAST_JUMP`` of the price; ``LEAST_JUMP_OF_FEW`` where a side has few trades.
(Barndorff-Nielsen et al. 2009, rule Q4, with the floor of Brownlees and Gallo 2006; both sides, so that a
market that moves is left alone.) Numbers: ``price_eligible`` trades, ``jumps``. Examples: the farthest first.
"""


def price_band(trades: pa.Table, closes: Mapping[str, Decimal]) -> Finding:
    """Check that a day's prices are of the scale of the day before; see ``price_band_rule``."""
    rule = price_band_rule(closes)
    return rule.conclude(rule.count(trades, trades))


def price_band_rule(closes: Mapping[str, Decimal]) -> TradeRule:
    """Make the rule that each symbol's median price lies within ``BAND`` of its close before.

    Beyond it lie splits, and files in another unit or currency. Numbers: ``compared`` symbols, those of them
    ``outside``. Examples: symbol, its median price and the close.

    Args:
        closes: The last close of each symbol before the day, where there is one.
    """
    before = {symbol: float(close) for symbol, close in closes.items() if close}

    def count(_: pa.Table, trades: pa.Table) -> Tally:
        medians = (
            _eligible(trades).group_by("symbol").agg(pl.col("price").cast(pl.Float64).median()).sort("symbol").rows()
        )
        compared = [(symbol, price, before[symbol]) for symbol, price in medians if symbol in before]
        outside: tuple[Example, ...] = tuple(
            {"symbol": symbol, "median_price": f"{price:.10g}", "close_before": f"{close:.10g}"}
            for symbol, price, close in compared
            if abs(price / close - 1) > BAND
        )
        return Tally({"compared": len(compared), "outside": len(outside)}, (outside[:MAX_EXAMPLES],))

    def conclude(tally: Tally) -> Finding:
        compared, outside = tally.numbers["compared"], tally.numbers["outside"]
        return Finding(
            check="price_band",
            passed=not outside,
            severity=Severity.WARN,
            description=f"{outside} of {compared} symbols trade {BAND:.0%} or more away from their close before: "
            "a split, or prices in another unit?",
            numbers=tally.numbers,
            examples=tally.shown,
            sizes=frozenset({"compared"}),
        )

    return TradeRule(count, conclude)


def repeated_content(trades: pa.Table, usual: Sequence[float]) -> Finding:
    """Check that no more trades are alike than usual; see ``repeated_content_rule``."""
    rule = repeated_content_rule(usual)
    return rule.conclude(rule.count(trades, trades))


def repeated_content_rule(usual: Sequence[float]) -> TradeRule:
    """Make the rule that no more trades than usual share symbol, time, price and quantity under ids of their own.

    Fills of one order do, on every feed; the same file loaded under another name makes nearly all do. Numbers:
    ``trades``, ``repeated`` (those alike to another), ``share``, ``usual_share`` and ``largest_share`` that passes.
    Examples: trades with how often they are there.

    Args:
        usual: Shares of earlier days of the feed; without any, half of the trades may be alike.
    """
    usually = median(usual) if usual else None
    largest = USUAL_SHARE_WITHOUT_HISTORY if usually is None else min(1.0, usually + max(LEAST_RISE, usually / 2))

    def count(_: pa.Table, trades: pa.Table) -> Tally:
        content = ["symbol", "exchange_timestamp", "price", "quantity"]
        alike = _frame(trades, content).group_by(content).len("times").filter(pl.col("times") > 1)
        shown = alike.sort("times", *content, descending=[True, *([False] * len(content))]).head(MAX_EXAMPLES)
        examples = tuple(_example(row) for row in shown.iter_rows(named=True))
        return Tally({"trades": trades.num_rows, "repeated": int(alike["times"].sum())}, (examples,))

    def conclude(tally: Tally) -> Finding:
        repeated, trades = tally.numbers["repeated"], tally.numbers["trades"]
        share = repeated / trades if trades else 0.0
        too_few = repeated < FEW_REPEATED and share < USUAL_SHARE_WITHOUT_HISTORY
        passed = too_few or share <= largest
        known = "no earlier day is known" if usually is None else f"{usually:.1%} are usual"
        return Finding(
            check="repeated_content",
            passed=passed,
            severity=Severity.WARN,
            description=f"{share:.1%} of {trades} trades have the time, price and quantity of another one of their "
            f"symbol; {known}. Were they loaded twice?",
            numbers={
                **tally.numbers,
                "share": round(share, 6),
                "usual_share": round(usually, 6) if usually is not None else "",
                "largest_share": round(largest, 6),
            },
            examples=() if passed else tally.shown,
            sizes=frozenset({"trades", "repeated", "share", "usual_share", "largest_share"}),
        )

    return TradeRule(count, conclude)


def _eligible(trades: pa.Table) -> pl.DataFrame:
    """Return the price-eligible trades by symbol and trade_order."""
    columns = ["symbol", "trade_order", "trade_id", "exchange_timestamp", "price", "quantity", "price_eligible"]
    frame = _frame(trades, columns).filter("price_eligible")
    return frame.with_columns(pl.col("symbol").cast(pl.String)).sort("symbol", "trade_order")


def _spans(symbols: pl.Series) -> list[tuple[int, int]]:
    """Tell where the rows of each symbol begin and end, in rows sorted by symbol."""
    lengths = symbols.rle().struct.field("len").to_list() if len(symbols) else []
    ends = np.cumsum([0, *lengths]).tolist()
    return list(pairwise(ends))


def _example(row: Mapping[str, object]) -> dict[str, str | int]:
    shown = {name: value for name, value in row.items() if name not in ("price_eligible", "trade_order")}
    return {
        name: value if isinstance(value, int) else value.isoformat() if hasattr(value, "isoformat") else str(value)
        for name, value in shown.items()
    }


def _frame(table: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    frame = pl.from_arrow(table.select(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame
