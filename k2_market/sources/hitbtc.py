"""Reads HitBTC's trade files: CSV with the header ``symbol,trade_id,timestamp,side,price,quantity``."""

from datetime import datetime

import polars as pl

from k2_market.feeds.feed import Feed
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.columns import decimals, instants_us
from k2_market.sources.csv import one_of, present
from k2_market.sources.limits import refuse_unsendable, trading_days
from k2_market.sources.table import SourceTable
from k2_market.sources.trade import SourceRows, as_source_trades, content_hash

COLUMNS = ("symbol", "trade_id", "timestamp", "side", "price", "quantity")


def read_trades(content: bytes, file: str, feed: Feed, now: datetime) -> SourceRows:
    """Return the trades of a HitBTC file; ``timestamp`` is ISO 8601 in UTC, ``side`` the aggressor's.

    Args:
        content: The file, not compressed.
        file: Its name, for errors.
        feed: Whose trades they are.
        now: The present: when the trades are received.

    Raises:
        SourceFileError: Something can't be read, or must not be sent; names file, row and column.
    """
    table = SourceTable.with_header(content, file, COLUMNS, ())
    time_us = instants_us(table, "timestamp")
    rows = as_source_trades(
        pl.DataFrame(
            {
                "symbol": table.columns["symbol"],
                "exchange_timestamp_us": time_us,
                "trade_date": trading_days(time_us, feed),
                "trade_id": present(table, "trade_id"),
                "price": decimals(table, "price", PRICE),
                "quantity": decimals(table, "quantity", QUANTITY),
                "side": one_of(table, "side", ("BUY", "SELL"), when_empty="UNKNOWN"),
            }
        ),
        received=now,
    )
    refuse_unsendable(table, rows, feed, now, "timestamp")
    return SourceRows(file, rows, ids_from_rows=False, content_hash=content_hash(content))
