"""I7: a day's bars computed from its trades once more, trade by trade in Python's decimals; slow and plain.

Every width is made from the trades themselves. The rules are those that ``bars`` documents; no code is shared with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import pyarrow as pa

from k2_market.invariants import Invariant, Violation, violation
from k2_market.table_schemas import DAY, BarInterval

COLUMNS_READ = (
    "symbol",
    "exchange_timestamp",
    "sequence_number",
    "kafka_partition",
    "kafka_offset",
    "price",
    "quantity",
    "price_eligible",
    "volume_eligible",
)
"""The columns of ``TRADES`` that bars are made of."""

_EXACT = Context(prec=100)
_PRICE_STEP = Decimal("1e-10")
_ROWS_AT_ONCE = 50_000

BarKey = tuple[str, datetime]
"""Symbol and start."""


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


def plain_bars(
    trades: pa.Table, interval: BarInterval, day_start: datetime, day_end: datetime
) -> dict[BarKey, PlainBar]:
    """The bars of one width that a day's trades amount to.

    Args:
        trades: ``COLUMNS_READ`` of a trading day, as published.
        interval: The width.
        day_start: The exchange's midnight at which the day starts.
        day_end: That of the day after.
    """
    bars: dict[BarKey, PlainBar] = {}
    for trade in _in_order(trades):
        symbol, instant, price, quantity, sets_price, counts = trade
        if not (sets_price or counts):
            continue
        if interval is DAY:
            start, end = day_start, day_end
        else:
            start = day_start + (instant - day_start) // interval.width * interval.width
            end = start + interval.width
        bar = bars.setdefault((symbol, start), PlainBar(end))
        if sets_price:
            bar.sets_price(price, quantity)
        if counts:
            bar.counts(quantity)
    for bar in bars.values():
        bar.finish()
    return bars


def bar_violations(interval: BarInterval, published: pa.Table, expected: dict[BarKey, PlainBar]) -> list[Violation]:
    """Where published bars are not the expected ones.

    Args:
        interval: Their width.
        published: ``BARS`` of the day.
        expected: As ``plain_bars`` gives them.
    """
    wrong: list[str] = []
    left = dict(expected)
    for row in published.to_pylist():
        key = (row["symbol"], row["bar_start"])
        if key in left:
            wrong += _wrong(row, left.pop(key))
        else:
            wrong.append(f"{_place(key)}: {'there twice' if key in expected else 'there are no trades for it'}")
    wrong += [f"{_place(key)}: missing" for key in sorted(left)]
    if not wrong:
        return []
    return [violation(Invariant.BARS, f"{interval.table}: bars that are not what the trades amount to", wrong)]


def _wrong(row: dict[str, Any], bar: PlainBar) -> list[str]:
    differing = [
        f"{name} is {_text(row[name])}, the trades give {_text(getattr(bar, name))}"
        for name in (each.name for each in fields(bar))
        if row[name] != getattr(bar, name)
    ]
    return [f"{_place((row['symbol'], row['bar_start']))}: {'; '.join(differing)}"] if differing else []


def _place(key: BarKey) -> str:
    return f"{key[0]} {key[1].isoformat()}"


def _text(value: object) -> str:
    return "none" if value is None else str(value)


_Trade = tuple[str, datetime, Decimal, Decimal, bool, bool]


def _in_order(trades: pa.Table) -> Iterator[_Trade]:
    """Trades one by one, in the order in which they set open and close."""
    keys = ("symbol", "exchange_timestamp", "sequence_number", "kafka_partition", "kafka_offset")
    ordered = trades.select(list(COLUMNS_READ)).sort_by([(key, "ascending", "at_start") for key in keys])
    shown = ("symbol", "exchange_timestamp", "price", "quantity", "price_eligible", "volume_eligible")
    for batch in ordered.select(list(shown)).to_batches(_ROWS_AT_ONCE):
        columns = [column.to_pylist() for column in batch.columns]
        yield from zip(*columns, strict=True)
