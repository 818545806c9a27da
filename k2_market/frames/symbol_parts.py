"""Splits a trading day into parts that hold whole symbols, so that a large day is processed a part at a time.

Whatever is said of a day symbol by symbol (which trade a message amends, which ids are unique, what the order of trades
is) can be said of its parts one after the other, in the memory of one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROWS_A_PART = 500_000
"""Rows after which a part ends, with the symbol that reached them. Larger ones were measured to be no quicker."""

_Ints = NDArray[np.int64]


def symbol_parts(*tables: pa.Table, rows_a_part: int = ROWS_A_PART) -> Iterator[tuple[pa.Table, ...]]:
    """Yield tables of one day cut alike: a part holds all rows of its symbols, from each of the tables.

    Args:
        *tables: With a column ``symbol``; other columns as they like. Text columns may be dictionaries, which saves
            memory; in the parts they are plain.
        rows_a_part: Rows of all tables together after which a part ends.

    Yields:
        A part of each table, its rows in their order there. Parts are in the order of symbols; rows without a symbol
        are in the first. There is always one, if of no rows.
    """
    coded = [_coded(table["symbol"]) for table in tables]
    symbols = sorted({symbol for names, _ in coded for symbol in names})
    rank = {symbol: place for place, symbol in enumerate(symbols)}
    ranks = [np.array([*(rank[name] for name in names), -1], np.int64) for names, _ in coded]
    counts = np.zeros(len(symbols) + 1, np.int64)
    for own, (_, chunks) in zip(ranks, coded, strict=True):
        for codes in chunks:
            counts += np.bincount(own[codes] + 1, minlength=len(counts))
    # -1, the place of a row without a symbol, is last in ``part_of``, and its part the first one.
    part_of = np.roll((np.cumsum(counts) - counts) // rows_a_part, -1).astype(np.uint16)
    cuts = [_Cut(table, own, codes, part_of) for table, own, (_, codes) in zip(tables, ranks, coded, strict=True)]
    for part in sorted({int(each) for each in part_of}):
        yield tuple(cut.part(part) for cut in cuts)


class _Cut:
    """A table and where in each of its batches the rows of each part stand."""

    def __init__(self, table: pa.Table, ranks: _Ints, codes: Sequence[_Ints], part_of: NDArray[np.uint16]) -> None:
        self._schema = pa.schema([_plain(field) for field in table.schema])
        self._batches = []
        first = 0
        for batch_codes in codes:
            parts = part_of[ranks[batch_codes]]
            order = np.argsort(parts, kind="stable")
            bounds = np.searchsorted(parts, np.arange(int(part_of.max()) + 2), sorter=order)
            self._batches.append((table.slice(first, len(batch_codes)), order, bounds))
            first += len(batch_codes)

    def part(self, part: int) -> pa.Table:
        taken = [
            _taken(batch, order[bounds[part] : bounds[part + 1]])
            for batch, order, bounds in self._batches
            if bounds[part] < bounds[part + 1]
        ]
        if not taken:
            return self._schema.empty_table()
        return pa.concat_tables(taken).unify_dictionaries().combine_chunks().cast(self._schema)


def _taken(batch: pa.Table, rows: _Ints) -> pa.Table:
    if rows[-1] - rows[0] + 1 == len(rows):  # as in a table that is sorted by symbol; the order is stable
        return batch.slice(rows[0], len(rows))
    return batch.combine_chunks().take(pa.array(rows))


def _coded(symbols: pa.ChunkedArray) -> tuple[list[str], list[_Ints]]:
    """Return the symbols there are, and batch by batch which of them each row has; -1 for none."""
    if not pa.types.is_dictionary(symbols.type):
        symbols = symbols.dictionary_encode()
    if not symbols.num_chunks:
        return [], []
    symbols = symbols.unify_dictionaries()
    codes = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in symbols.chunks]
    return symbols.chunk(0).dictionary.to_pylist(), codes


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
