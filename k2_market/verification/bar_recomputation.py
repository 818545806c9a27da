"""Verifies I7 for bars: recomputes a day's bars trade by trade, in Python decimals, slowly and simply.

Every width is made from the trades themselves. The rules are those that ``bars`` documents; no code is shared with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from k2_market.schemas.tables import BAR_INTERVALS, DAY, MINUTE, BarInterval
from k2_market.verification.invariants import Invariant, Violation, violation
from k2_market.verification.trade_recomputation import Eligibility, RecomputedTrade

_EXACT = Context(prec=100)
_PRICE_STEP = Decimal("1e-10")
_NOTIONAL_END = Decimal("1e20")
_VOLUME_END = Decimal("1e30")


@dataclass
class PlainBar:
    """A bar, in the columns of ``BARS`` beside symbol, day and start."""

    bar_end: datetime
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    volume: Decimal = Decimal(0)
    vwap: Decimal | None = None
    notional: Decimal = Decimal(0)
    priced_volume: Decimal = Decimal(0)
    trade_count: int = 0
    priced_count: int = 0

    def sets_price(self, price: Decimal, quantity: Decimal) -> None:
        """Take in a trade that may set prices; trades come in order."""
        self.open = price if self.open is None else self.open
        self.high = price if self.high is None else max(self.high, price)
        self.low = price if self.low is None else min(self.low, price)
        self.close = price
        self.notional = _EXACT.add(self.notional, _EXACT.multiply(price, quantity))
        self.priced_volume = _EXACT.add(self.priced_volume, quantity)
        self.priced_count += 1

    def counts(self, quantity: Decimal) -> None:
        """Take in a trade that counts for volume."""
        self.volume = _EXACT.add(self.volume, quantity)
        self.trade_count += 1

    def finish(self) -> None:
        """Work out the average price."""
        if self.priced_volume:
            exact = _EXACT.divide(self.notional, self.priced_volume)
            self.vwap = exact.quantize(_PRICE_STEP, rounding=ROUND_HALF_UP, context=_EXACT)


def bars_of_symbol(
    trades: Iterable[RecomputedTrade],
    eligibility: Eligibility,
    day_start: datetime,
    day_end: datetime,
    grid_start: datetime | None = None,
) -> dict[BarInterval, dict[datetime, PlainBar]]:
    """Work out the bars of every width that a symbol's trades of a day amount to, by their start.

    Of a width there are none where a bar of it, or of a minute of it, has a sum that its column can't hold.

    Args:
        trades: In market order.
        eligibility: Which of them set prices or count.
        day_start: The instant at which the trading day starts.
        day_end: The instant at which the next one does.
        grid_start: A whole hour at the exchange from which bars shorter than a day are counted; the day's start unless
            given.
    """
    grid_start = day_start if grid_start is None else grid_start
    bars: dict[BarInterval, dict[datetime, PlainBar]] = {interval: {} for interval in BAR_INTERVALS}
    for trade in trades:
        sets_price, counts = eligibility.of(trade)
        if not (sets_price or counts):
            continue
        for interval, of_width in bars.items():
            start = day_start
            if interval is not DAY:
                start = grid_start + (trade.placed.at - grid_start) // interval.width * interval.width
            if start not in of_width:
                of_width[start] = PlainBar(day_end if interval is DAY else start + interval.width)
            if sets_price:
                of_width[start].sets_price(trade.valued.price, trade.valued.quantity)
            if counts:
                of_width[start].counts(trade.valued.quantity)
    for of_width in bars.values():
        for bar in of_width.values():
            bar.finish()
    minutes_fit = _fit(bars[MINUTE])
    return {interval: of_width if minutes_fit and _fit(of_width) else {} for interval, of_width in bars.items()}


def _fit(bars: Mapping[datetime, PlainBar]) -> bool:
    """Tell whether the sums of all of some bars fit the columns of ``BARS``: decimals of 38 digits."""
    return all(
        abs(bar.notional) < _NOTIONAL_END and max(bar.volume, bar.priced_volume) < _VOLUME_END for bar in bars.values()
    )


def bar_differences(
    symbol: str, expected: Mapping[datetime, PlainBar], published: Iterable[Mapping[str, Any]]
) -> list[str]:
    """List where the published bars of a symbol and width are not the expected ones.

    Args:
        symbol: The symbol.
        expected: As ``bars_of_symbol`` gives them.
        published: Rows of ``BARS`` of the symbol.
    """
    wrong: list[str] = []
    left = dict(expected)
    for row in published:
        start = row["bar_start"]
        if start in left:
            wrong += _differences(symbol, row, left.pop(start))
        else:
            wrong.append(
                f"{symbol} {start.isoformat()}: {'there twice' if start in expected else 'there are no trades for it'}"
            )
    return wrong + [f"{symbol} {start.isoformat()}: missing" for start in sorted(left)]


def bar_violations(day: date, interval: BarInterval, wrong: list[str]) -> list[Violation]:
    """Make a violation of a day's differences, if there are any."""
    what = f"{interval.table} of {day}: bars that are not what the messages amount to"
    return [violation(Invariant.BARS, what, wrong)] if wrong else []


def _differences(symbol: str, row: Mapping[str, Any], bar: PlainBar) -> list[str]:
    differing = [
        f"{name} is {_text(row[name])}, expected {_text(getattr(bar, name))}"
        for name in (each.name for each in fields(bar))
        if row[name] != getattr(bar, name)
    ]
    return [f"{symbol} {row['bar_start'].isoformat()}: {'; '.join(differing)}"] if differing else []


def _text(value: object) -> str:
    return "none" if value is None else str(value)
