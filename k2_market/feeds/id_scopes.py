"""Brings the scope in which trade ids are unique down to one rule: a trade is known by its symbol and ``trade_id``.

Raw rows are made to fit before anything compares ids. Where venues number their trades each for itself, ids become
``<exchange>:<trade_id>``, which is what ``trades`` shows. Where an id is unique within the whole feed, a message that
repeats the id of a trade of another symbol is left out, as one that repeats it under its own symbol is.
``docs/feeds.md`` has the scopes with an example each.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.feeds.feed import IdScope

_PLACE = ("kafka_topic_id", "kafka_partition", "kafka_offset")


def columns_with_scope(columns: Sequence[str], scope: IdScope) -> tuple[str, ...]:
    """Give the columns of raw rows to read so that ids can be made to fit: ``exchange`` too, where venues have ids."""
    more = ("exchange",) if scope is IdScope.VENUE and "exchange" not in columns else ()
    return (*columns, *more)


def named_by_symbol(raw: pa.Table, scope: IdScope) -> pa.Table:
    """Give raw rows whose ids are unique within their symbol.

    Args:
        raw: Rows with ``trade_id`` and, within a venue, ``exchange``; ``corrects_trade_id`` where they have it.
        scope: What the ids are unique within.

    Returns:
        The same rows and columns, but for ``exchange`` where it was read for this alone.
    """
    if scope is not IdScope.VENUE:
        return raw
    venue = pc.replace_substring(raw["exchange"].cast(pa.string()), ":", "_")
    for name in ("trade_id", "corrects_trade_id"):
        if name in raw.column_names:
            ids = raw[name].cast(pa.string())
            qualified = pc.binary_join_element_wise(venue, ids, ":")
            raw = raw.set_column(
                raw.column_names.index(name), raw.schema.field(name), _where_told(ids, qualified).cast(raw[name].type)
            )
    return raw


def ids_as_sent(names: Collection[str], scope: IdScope) -> set[str]:
    """Give the ids that messages have for names of trades, to look them up in the raw table."""
    return {name.partition(":")[2] for name in names} if scope is IdScope.VENUE else set(names)


@dataclass(frozen=True)
class OnceInFeed:
    """Holds raw rows without those that repeat the id of another symbol's trade.

    Attributes:
        rows: Those that are left.
        left_out: How many are not.
        ids: How many ids stood for trades of several symbols.
    """

    rows: pa.Table
    left_out: int
    ids: int


def once_in_feed(raw: pa.Table, scope: IdScope, topic_order: Sequence[str] = ()) -> OnceInFeed:
    """Leave out ``NEW`` messages whose id an earlier message has for a trade of another symbol.

    Messages are in the order of topic, partition and offset: the first stays, as for repetitions within a symbol.

    Args:
        raw: A whole day's rows.
        scope: What the ids are unique within; nothing is left out unless it is the feed.
        topic_order: Topic ids, oldest first; others follow by id.
    """
    if scope is not IdScope.FEED or not raw.num_rows:
        return OnceInFeed(raw, 0, 0)
    found = pl.from_arrow(raw.select(["symbol", "trade_id", "action", "reject_reason", *_PLACE]))
    assert isinstance(found, pl.DataFrame)
    rank = {topic: place for place, topic in enumerate(topic_order)}
    reports = (
        found.with_row_index("row")
        .with_columns(pl.col("symbol", "action", "kafka_topic_id").cast(pl.String))
        .filter(pl.col("reject_reason").is_null(), pl.col("action") == "NEW", pl.col("trade_id") != "")
        .with_columns(
            pl.col("kafka_topic_id").replace_strict(rank, default=len(rank), return_dtype=pl.Int64).alias("age")
        )
    )
    shared = reports.filter(pl.col("symbol").n_unique().over("trade_id") > 1).sort("age", *_PLACE)
    others = shared.filter(pl.col("symbol") != pl.col("symbol").first().over("trade_id"))
    if others.is_empty():
        return OnceInFeed(raw, 0, 0)
    keep = pc.invert(pc.is_in(pa.array(range(raw.num_rows)), value_set=others["row"].cast(pl.Int64).to_arrow()))
    return OnceInFeed(raw.filter(keep), others.height, others["trade_id"].n_unique())


def _where_told(ids: pa.ChunkedArray, qualified: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return qualified ids where there is an id; what has none keeps none."""
    told = pc.fill_null(pc.not_equal(ids, ""), False)
    return pc.if_else(told, qualified, ids)
