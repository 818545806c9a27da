"""A trading day's rows for a rule that goes through them in batches, so that a day of any size takes little memory.

Rules that can look at a few columns first, and at the others only where something was found, call it several times.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import polars as pl
import pyarrow as pa


class DayBatches(Protocol):
    """Gives the named columns of a day's rows, some rows at a time; each call begins anew, with the same rows."""

    def __call__(self, *columns: str) -> Iterator[pa.Table]:
        """The batches, in the order in which they lie; there may be none, and texts may be dictionaries."""
        ...


def frames(day: DayBatches, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The same as Polars frames, all texts plain: Polars makes them of dictionaries sooner than Arrow does."""
    for batch in day(*columns):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield frame.with_columns(pl.col(pl.Categorical).cast(pl.String))
