"""Checks the trade ids of files before they are sent: one id stands for one trade within the feed's scope."""

import polars as pl

from k2_market.errors import SourceFileError
from k2_market.feeds.feed import Feed, IdScope
from k2_market.frames.repeated_keys import rows_sharing_a_key

_CONTENT = ("symbol", "exchange_timestamp_us", "price", "quantity", "side", "conditions")
_KEYS = {
    IdScope.SYMBOL: ("trade_date", "symbol", "trade_id"),
    IdScope.VENUE: ("trade_date", "symbol", "exchange", "trade_id"),
    IdScope.FEED: ("trade_date", "trade_id"),
    IdScope.DAY: ("trade_date", "symbol", "trade_id"),
}


def refuse_conflicting_ids(trades: pl.DataFrame, feed: Feed) -> None:
    """Raise where an id stands for differing new trades, of which all but the first would not count.

    Args:
        trades: ``SOURCE_TRADE``, of all files that are loaded together.
        feed: Whose trades they are.

    Raises:
        SourceFileError: Names the id, two of its trades and what can be done.
    """
    scope = feed.ids.unique_within
    key = list(_KEYS[scope])
    new = trades.filter(pl.col("action") == "NEW").select(*dict.fromkeys([*key, *_CONTENT]))
    repeated = rows_sharing_a_key(new, key).unique(maintain_order=True)
    differing = repeated.filter(pl.struct(key).is_duplicated())
    if differing.is_empty():
        return
    ids = differing.select(pl.struct(key).n_unique()).item()
    first = differing.row(0, named=True)
    others = differing.filter(pl.all_horizontal(pl.col(name).eq_missing(pl.lit(first[name])) for name in key))
    one, other = (_described(row) for row in others.head(2).iter_rows(named=True))
    raise SourceFileError(
        f"trade_id {first['trade_id']!r} stands for differing trades of {first['trade_date']}: {one}, and {other} "
        f"({ids} such ids). Ids of feed {feed.name} are unique within a {scope}, so only the first would count, and "
        "nothing was sent. If each venue has ids of its own, give the files a column exchange and the feed file "
        '[ids] unique_within = "venue"; if these are no ids, leave the column trade_id out'
    )


def _described(row: dict[str, object]) -> str:
    at = pl.select(pl.lit(row["exchange_timestamp_us"]).cast(pl.Datetime("us")).dt.to_string("iso:strict")).item()
    price, quantity = (f"{float(str(row[name])):.10g}" for name in ("price", "quantity"))
    return f"{row['symbol']} {price} x {quantity} at {at}Z"
