"""Represents sets of whole numbers as runs, so that millions of them, and their gaps, take little memory.

Sequence numbers and offsets mostly come one after the other. A batch of them is told by a few runs, and batches are
laid over each other as runs: nothing is kept row by row.
"""

from collections.abc import Iterable, Sequence

import polars as pl

RUN = {"first": pl.Int64, "last": pl.Int64}
"""The numbers from ``first`` to ``last``, both included."""


def runs_of(numbers: pl.DataFrame, key: Sequence[str], number: str) -> pl.DataFrame:
    """Return the numbers of a batch as runs.

    Args:
        numbers: Rows with the key and the number, in any order; a number may be there several times.
        key: Columns within which numbers count.
        number: The column of the numbers, none of them null.

    Returns:
        ``key``, ``first``, ``last``: the runs of each key, which do not touch.
    """
    value = pl.col(number)
    hulls = numbers.group_by(*key).agg(first=value.min(), last=value.max(), distinct=value.n_unique())
    without_hole = _wide("last") - _wide("first") + 1 == pl.col("distinct")
    whole = hulls.filter(without_hole).select(*key, *RUN)
    if whole.height == hulls.height:
        return whole
    broken = numbers.join(hulls.filter(~without_hole), on=list(key), how="semi", nulls_equal=True)
    return pl.concat([whole, union_of([broken.select(*key, first=value, last=value)], key)])


def union_of(runs: Iterable[pl.DataFrame], key: Sequence[str]) -> pl.DataFrame:
    """Return runs of any batches, which may overlap, as runs that do not touch, in order of key and number.

    Args:
        runs: As ``runs_of`` gives them; at least one frame.
        key: Their key.
    """
    ordered = pl.concat(runs).sort(*key, "first")
    reached = pl.col("last").cum_max().shift(1).over(key)
    begins = (_wide("first") > reached.cast(pl.Int128) + 1).fill_null(True)
    return (
        ordered.with_columns(begins.cum_sum().alias("run"))
        .group_by(*key, "run", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max())
        .select(*key, *RUN)
    )


def _wide(column: str) -> pl.Expr:
    """Return the extremes of 64 bits are further apart than 64 bits can say."""
    return pl.col(column).cast(pl.Int128)
