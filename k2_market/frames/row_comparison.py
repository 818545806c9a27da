"""Compares rows of two tables, pair by pair; null is equal to null."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
"""True for each row that is meant."""

Places = npt.NDArray[np.int64]
"""Places of rows in their table."""


def differing(left: pa.Table, right: pa.Table, pairs: tuple[Places, Places], columns: Iterable[str]) -> Mask:
    """Tell which pairs of rows differ in one of some columns.

    Args:
        left: A table.
        right: Another of the same schema.
        pairs: For each pair the place of its row in the one table, and in the other.
        columns: What is compared; one column of the pairs is in memory at a time.
    """
    differs = np.zeros(len(pairs[0]), np.bool_)
    for name in columns:
        one, other = (table[name].take(pa.array(places)) for table, places in zip((left, right), pairs, strict=True))
        if not one.equals(other):
            differs |= _nested_differ(one, other) if pa.types.is_nested(one.type) else _differ(one, other)
    return differs


def _differ(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Mask:
    one_is_null = pc.xor(pc.is_null(left), pc.is_null(right))
    unequal = pc.fill_null(pc.not_equal(left, right), False)
    return np.asarray(pc.or_(one_is_null, unequal).to_numpy(), np.bool_)


def _nested_differ(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Mask:
    pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
    return np.fromiter((one != other for one, other in pairs), np.bool_, len(left))
