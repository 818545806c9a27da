"""Sorts the trades of a day, which decides what a bar's open and close are.

The order among a symbol's trades is worked out once, when a day is cleaned (``market_order``), and stored as
``trade_order``; whatever is made of the trades later goes by that column.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

MARKET_ORDER = ("symbol", "exchange_timestamp", "sequence_number", "kafka_partition", "kafka_offset")
TRADE_ORDER = ("symbol", "trade_order")


def in_trade_order(trades: pl.DataFrame) -> pl.DataFrame:
    """Sort clean trades by symbol and trade_order; gives back the very same frame if they stand so already.

    Args:
        trades: At least the columns of ``TRADE_ORDER``.
    """
    numbers = _packed(trades, "trade_order")
    if numbers is None:
        return trades.sort(TRADE_ORDER)
    return trades[np.argsort(numbers, kind="stable")] if (numbers[1:] < numbers[:-1]).any() else trades


def market_order(trades: pl.DataFrame, ties: Sequence[str] = ()) -> NDArray[np.int64] | None:
    """Find the positions of trades in market order: by ``MARKET_ORDER``, trades without a sequence number first.

    Sorting by one number made of symbol and time is eight times as quick as by five columns. The few rows that are
    equal in both are put in order after that.

    Args:
        trades: At least the columns of ``MARKET_ORDER`` and ``ties``, the first two without nulls.
        ties: Columns that decide between rows that are equal in all of ``MARKET_ORDER``; else they keep their order.

    Returns:
        The positions; None if the trades stand so already.
    """
    by = (*MARKET_ORDER, *ties)
    numbers = _packed(trades, "exchange_timestamp")
    if numbers is None:
        every = trades.select(by).with_row_index("position").sort(by, maintain_order=True)
        return every["position"].cast(pl.Int64).to_numpy()
    moved = bool((numbers[1:] < numbers[:-1]).any())
    order = np.argsort(numbers, kind="stable") if moved else np.arange(len(numbers))
    if moved:
        numbers = numbers[order]
    equals_next = numbers[1:] == numbers[:-1]
    tied = np.flatnonzero(np.append(equals_next, False) | np.insert(equals_next, 0, False))
    if len(tied):
        rows = trades.select(by)[order[tied]].with_columns(pl.Series("position", order[tied]))
        settled = rows.sort(by, maintain_order=True)["position"].to_numpy()
        moved |= not np.array_equal(order[tied], settled)
        order[tied] = settled
    return order if moved else None


def _packed(trades: pl.DataFrame, column: str) -> NDArray[np.int64] | None:
    """Make one number a row that sorts as (symbol, column); None where 63 bits do not hold it."""
    symbols = pl.Enum(trades["symbol"].unique().cast(pl.String).sort())
    values = trades[column].to_physical()
    first, last = values.min(), values.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return np.empty(0, np.int64)  # there are no trades
    span = last - first + 1
    if values.null_count() or span * len(symbols.categories) >= 2**63:
        return None
    rank = trades["symbol"].cast(symbols).to_physical().cast(pl.Int64)
    return (rank * span + (values - first)).to_numpy()
