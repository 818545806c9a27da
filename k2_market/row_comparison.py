"""Which rows of two tables differ, row by row; null is equal to null."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.row_offsets import Mask


def differing(left: pa.Table, right: pa.Table, columns: Iterable[str]) -> Mask:
    """Which rows differ in one of some columns; the tables are of equal length and schema."""
    differs = np.zeros(left.num_rows, np.bool_)
    for name in columns:
        if not left[name].equals(right[name]):
            differs |= (
                _nested_differ(left[name], right[name]) if _is_nested(left[name]) else _differ(left[name], right[name])
            )
    return differs


def _is_nested(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_nested(column.type))


def _differ(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Mask:
    one_is_null = pc.xor(pc.is_null(left), pc.is_null(right))
    unequal = pc.fill_null(pc.not_equal(left, right), False)
    return np.asarray(pc.or_(one_is_null, unequal).to_numpy(), np.bool_)


def _nested_differ(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Mask:
    pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
    return np.fromiter((one != other for one, other in pairs), np.bool_, len(left))
