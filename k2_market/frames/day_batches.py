"""Splits a trading day's rows into batches for rules, so that a day of any size takes little memory.

Rules that can look at a few columns first, and at the others only where something was found, call it several times.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import polars as pl
import pyarrow as pa


class DayBatches(Protocol):
    """Gives the named columns of a day's rows, some rows at a time; each call begins anew, with the same rows."""

    def __call__(self, *columns: str) -> Iterator[pa.Table]:
        """Yield the batches, in the order in which they lie; there may be none, and texts may be dictionaries."""
        ...


def frames(day: DayBatches, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the same as Polars frames, all texts plain."""
    return map(plain, compact_frames(day, columns))


def compact_frames(day: DayBatches, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the same, dictionaries as Categoricals: for what touches every row and keeps little of it."""
    for batch in day(*columns):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield frame


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with all texts plain."""
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))
