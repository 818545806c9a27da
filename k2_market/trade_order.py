"""Table order: how the trades of a day stand, which decides what a bar's open and close are.

By symbol, exchange_timestamp, sequence_number (none before any), kafka_partition, kafka_offset.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

TABLE_ORDER = ("symbol", "exchange_timestamp", "sequence_number", "kafka_partition", "kafka_offset")


def in_table_order(trades: pl.DataFrame) -> pl.DataFrame:
    """The trades in table order; the very same frame if they stand so already.

    Args:
        trades: At least the columns of ``TABLE_ORDER``, the first two without nulls.
    """
    order = table_order(trades)
    return trades if order is None else trades[order]


def table_order(trades: pl.DataFrame, ties: Sequence[str] = ()) -> NDArray[np.int64] | None:
    """The positions of the trades in table order; none if they stand in it already.

    Sorting by one number made of symbol and time is eight times as quick as by five columns. The few rows that are
    equal in both are put in order after that.

    Args:
        trades: At least the columns of ``TABLE_ORDER`` and ``ties``, the first two without nulls.
        ties: Columns that decide between rows that are equal in all of ``TABLE_ORDER``; else they keep their order.
    """
    by = (*TABLE_ORDER, *ties)
    numbers = _symbol_and_time(trades)
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


def _symbol_and_time(trades: pl.DataFrame) -> NDArray[np.int64] | None:
    """One number a row that sorts as (symbol, exchange_timestamp); none where 63 bits do not hold it."""
    symbols = pl.Enum(trades["symbol"].unique().cast(pl.String).sort())
    since = trades["exchange_timestamp"].to_physical()
    first, last = since.min(), since.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return np.empty(0, np.int64)  # there are no trades
    span = last - first + 1
    if span * len(symbols.categories) >= 2**63:
        return None
    rank = trades["symbol"].cast(symbols).to_physical().cast(pl.Int64)
    return (rank * span + (since - first)).to_numpy()
