"""Sorts out the trades that need no further check, which are nearly all of a usual day.

A trade is plain if it stands beside the one message at its offset, that message is a ``NEW`` of the same id and says
the same, no other trade stands beside it, no other row has a digest of that id, and no amendment names it. What sets
in SQL have to say of plain trades is known before: each is expected, there once, and like its message. So only the
others, and the messages that they may have to do with, go on to SQL.

Arrow and NumPy alone are at work here, and a digest of DuckDB's: nothing that the trades are made with.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from k2_market.quality.statements import run_statement

_NAMING = ["symbol", "trade_id", "corrects_trade_id", "kafka_topic_id", "kafka_partition", "kafka_offset"]

_SIEVE_BITS = 22

_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Doubtful:
    """Describes what is left of a day, or of a part that holds whole symbols, without its plain trades.

    Attributes:
        plain: How many trades were plain.
        raw: The messages that have to do with the other trades' ids.
        trades: The trades whose ids are to be looked at.
        unlike: Those of the trades that were not found to say what their message says.
        messages: The messages at the offsets of ``unlike``.
    """

    plain: int
    raw: pa.Table
    trades: pa.Table
    unlike: pa.Table
    messages: pa.Table


def without_plain_trades(raw: pa.Table, trades: pa.Table) -> Doubtful:
    """Takes the plain trades, and their messages, out of a day.

    Args:
        raw: Rows of ``RAW_TRADES``; whole symbols.
        trades: ``TRADES`` of the same symbols.
    """
    raw, trades = raw.combine_chunks(), trades.combine_chunks()
    places = _places(raw, trades)
    if places is None:
        return Doubtful(0, raw, trades, trades, raw)
    raw_places, trade_places = places
    message = _message_of_each(raw_places, trade_places)
    beside = np.flatnonzero(message >= 0)
    plain = np.zeros(trades.num_rows, np.bool_)
    plain[beside] = _alike(raw, message[beside], trades, beside)
    like = plain.copy()

    own = message[plain]
    digests = _digests("trade_digests", trades=trades.select(["symbol", "trade_id"]))
    raw_left = np.ones(raw.num_rows, np.bool_)
    raw_left[own] = False
    named = _digests("ids_named", messages=raw.filter(raw_left).select(_NAMING))
    plain &= ~_perhaps_among(digests, np.concatenate([digests[~plain], _repeated(digests[plain]), named]))
    raw_left[own] = ~plain[like]
    unlike = ~like
    return Doubtful(
        plain=int(plain.sum()),
        raw=raw.filter(raw_left),
        trades=trades.filter(~plain),
        unlike=trades.filter(unlike),
        messages=raw.filter(_perhaps_among(raw_places, trade_places[unlike])),
    )


def _places(raw: pa.Table, trades: pa.Table) -> tuple[_Ints, _Ints] | None:
    """Return topic, partition and offset of every row as one number; None where 63 bits do not hold them."""
    tables = (raw, trades)
    topics = pa.chunked_array([each for table in tables for each in table["kafka_topic_id"].chunks], pa.string())
    names = topics.unique()
    partitions, offsets = (
        [table[column].to_numpy() for table in tables] for column in ("kafka_partition", "kafka_offset")
    )
    if any(len(each) and each.min() < 0 for each in (*partitions, *offsets)):
        return None
    partition_count, offset_count = (
        1 + max((int(each.max()) for each in group if len(each)), default=0) for group in (partitions, offsets)
    )
    if len(names) * partition_count * offset_count >= 2**63:
        return None
    packed = []
    for table, partition, offset in zip(tables, partitions, offsets, strict=True):
        topic = pc.index_in(table["kafka_topic_id"], value_set=names).to_numpy().astype(np.int64)
        packed.append((topic * partition_count + partition) * offset_count + offset)
    return packed[0], packed[1]


def _message_of_each(raw_places: _Ints, trade_places: _Ints) -> _Ints:
    """For each trade the row of the one message at its place; -1 where there is none, or more, or other trades too."""
    if not len(raw_places) or not len(trade_places):
        return np.full(len(trade_places), -1)
    order = np.argsort(raw_places, kind="stable")
    ordered = raw_places[order]
    found = np.minimum(np.searchsorted(ordered, trade_places), len(ordered) - 1)
    message = order[found]
    following = np.minimum(found + 1, len(ordered) - 1)
    more = (following > found) & (ordered[following] == trade_places)
    there = (ordered[found] == trade_places) & ~more
    taken = np.bincount(message[there], minlength=len(raw_places))
    return np.where(there & (taken[message] == 1), message, -1)


def _alike(raw: pa.Table, messages: _Ints, trades: pa.Table, rows: _Ints) -> _Flags:
    """Say whether each trade is what the message beside it reports."""
    said = ["symbol", "trade_id", "price", "quantity"]
    message = raw.select([*said, "conditions", "action", "reject_reason"]).take(pa.array(messages))
    trade = trades.select([*said, "conditions"])
    if len(rows) < trades.num_rows:
        trade = trade.take(pa.array(rows))
    alike = np.asarray(message["reject_reason"].is_null())
    alike &= _true(pc.equal(message["action"], "NEW")) & _true(pc.not_equal(message["trade_id"], ""))
    for column in said:
        alike &= _true(pc.equal(message[column], trade[column]))
    alike[alike] = _equal_lists(*(_list_column(table, alike) for table in (message, trade)))
    return alike


def _list_column(table: pa.Table, rows: _Flags) -> pa.ListArray:
    column = table["conditions"].combine_chunks()
    return column if rows.all() else column.filter(pa.array(rows))


def _equal_lists(one: pa.ListArray, other: pa.ListArray) -> _Flags:
    """Say whether lists of text are equal; a list that is null or holds a null is equal to nothing."""
    lengths = [pc.fill_null(pc.list_value_length(each), -1).to_numpy(zero_copy_only=False) for each in (one, other)]
    equal: _Flags = (lengths[0] == lengths[1]) & (lengths[0] >= 0)
    rows = np.flatnonzero(equal & (lengths[0] > 0))
    if len(rows):
        elements = [each.take(pa.array(rows)).flatten() for each in (one, other)]
        same = _true(pc.equal(*elements))
        begins = np.cumsum(lengths[0][rows]) - lengths[0][rows]
        equal[rows] = np.logical_and.reduceat(same, begins)
    return equal


def _digests(statement: str, **tables: pa.Table) -> NDArray[np.uint64]:
    digests: NDArray[np.uint64] = run_statement(statement, tables, {})["digest"].to_numpy()
    return digests


def _repeated(digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    ordered = np.sort(digests)
    repeated: NDArray[np.uint64] = ordered[1:][ordered[1:] == ordered[:-1]]
    return repeated


def _perhaps_among(values: NDArray[np.generic], some: NDArray[np.generic]) -> _Flags:
    """Tell which values may be among some others: all that are, and a few that have the same lowest bits."""
    marked = np.zeros(1 << _SIEVE_BITS, np.bool_)
    marked[_lowest_bits(some)] = True
    among: _Flags = marked[_lowest_bits(values)]
    return among


def _lowest_bits(values: NDArray[np.generic]) -> _Ints:
    bits: _Ints = (values.astype(np.uint64) & np.uint64((1 << _SIEVE_BITS) - 1)).astype(np.int64)
    return bits


def _true(flags: pa.ChunkedArray | pa.Array) -> _Flags:
    true: _Flags = np.asarray(pc.fill_null(flags, False)).astype(np.bool_)
    return true
