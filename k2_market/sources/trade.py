"""Defines the frame of trades that file readers and the simulator make, before they become messages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

import polars as pl

from k2_market.errors import SourceFileError
from k2_market.schemas.tables import PRICE, QUANTITY

SOURCE_TRADE = pl.Schema(
    {
        "symbol": pl.String(),
        "exchange": pl.String(),
        "exchange_timestamp_us": pl.Int64(),
        "trade_date": pl.Date(),
        "trade_id": pl.String(),
        "price": pl.Decimal(PRICE.precision, PRICE.scale),
        "quantity": pl.Decimal(QUANTITY.precision, QUANTITY.scale),
        "side": pl.String(),
        "conditions": pl.List(pl.String()),
        "action": pl.String(),
        "corrects_trade_id": pl.String(),
        "sequence_number": pl.Int64(),
        "received_timestamp_us": pl.Int64(),
        "attributes": pl.List(pl.Struct({"key": pl.String(), "value": pl.String()})),
    }
)
"""One row a trade, in the order in which the source tells them.

Times are microseconds since 1970 UTC.
``exchange`` is null where it is the feed's. ``corrects_trade_id``, ``sequence_number`` and ``attributes`` may be null
too, nothing else.
"""

_HASH_DIGITS_OF_IDS = 16

_UNTOLD = {
    "exchange": pl.lit(None),
    "side": pl.lit("UNKNOWN"),
    "conditions": pl.lit([], dtype=pl.List(pl.String())),
    "action": pl.lit("NEW"),
    "corrects_trade_id": pl.lit(None),
    "sequence_number": pl.lit(None),
    "attributes": pl.lit(None),
}


@dataclass(frozen=True)
class SourceRows:
    """Describes what a file tells.

    Attributes:
        file: Its name.
        rows: ``SOURCE_TRADE``, in file order.
        ids_from_rows: Whether the trade ids were made from the file's content and the rows' places.
        content_hash: SHA-256 of its content, unpacked, in hexadecimal.
    """

    file: str
    rows: pl.DataFrame
    ids_from_rows: bool
    content_hash: str


def as_source_trades(told: pl.DataFrame, received: datetime) -> pl.DataFrame:
    """``SOURCE_TRADE`` from the columns that a source tells; the others say that it tells nothing of them.

    Args:
        told: At least symbol, time, trading day, id, price and quantity.
        received: When the source was read: the time at which K2 receives these trades.
    """
    untold = {name: value for name, value in _UNTOLD.items() if name not in told.columns}
    received_us = pl.lit(round(received.timestamp() * 1_000_000))
    return told.with_columns(**untold, received_timestamp_us=received_us).select(
        pl.col(name).cast(dtype) for name, dtype in SOURCE_TRADE.items()
    )


def content_hash(content: bytes) -> str:
    """Make the SHA-256 of a file's content, in hexadecimal."""
    return sha256(content).hexdigest()


def ids_from_rows(content: bytes, trade_dates: pl.Series) -> pl.Series:
    """Make trade ids ``<content's hash>:<trading day>:<n>``, ``n`` counting that day's rows in the file from 1.

    The same content gives the same ids whenever it is read, under whatever name, packed or not; other content gives
    others, so that pieces of one name do not stand for one another.

    Args:
        content: The file, not compressed.
        trade_dates: Its rows' trading days.

    Example:
        >>> from datetime import date
        >>> ids_from_rows(b"...", pl.Series([date(2014, 3, 10), date(2014, 3, 10)])).to_list()
        ['ab5df625bc76dbd4:2014-03-10:1', 'ab5df625bc76dbd4:2014-03-10:2']
    """
    days = pl.DataFrame({"day": trade_dates})
    place = pl.col("day").cum_count().over("day")
    prefix = pl.lit(content_hash(content)[:_HASH_DIGITS_OF_IDS])
    return days.select(pl.format("{}:{}:{}", prefix, pl.col("day"), place)).to_series().rename("trade_id")


def with_ids_of_generation(file: SourceRows, unloaded: int) -> SourceRows:
    """Give a file's trades ids of their own again where its content was loaded and taken back before.

    A cancel is final, so trades under their old ids would not count. Ids that the file itself has stay.

    Args:
        file: What was read.
        unloaded: How often its content was taken back.
    """
    if not (unloaded and file.ids_from_rows):
        return file
    prefix = file.content_hash[:_HASH_DIGITS_OF_IDS]
    ids = pl.col("trade_id").str.replace(prefix, f"{prefix}.{unloaded + 1}", literal=True)
    return replace(file, rows=file.rows.with_columns(ids))


def in_time_order(files: Sequence[SourceRows]) -> pl.DataFrame:
    """Return the rows of some files in order of time, as one file would have them.

    A symbol's rows keep the order in which their file has them, also where one of them is out of time: that is the
    order in which the exchange told them. Rows of the same time stand in the order of the files.

    Raises:
        SourceFileError: Two files have the same content.
    """
    _refuse_equal_content(files)
    if not files:
        return pl.DataFrame(schema=SOURCE_TRADE)
    # A row that is out of time goes where the latest row before it of its file and symbol goes.
    reached = pl.col("exchange_timestamp_us").cum_max().over("symbol")
    return (
        pl.concat([each.rows.with_columns(reached=reached) for each in files])
        .sort("reached", maintain_order=True)
        .drop("reached")
    )


def _refuse_equal_content(files: Sequence[SourceRows]) -> None:
    seen: dict[str, str] = {}
    for each in files:
        earlier = seen.setdefault(each.content_hash, each.file)
        if earlier != each.file and each.rows.height:
            raise SourceFileError(f"{each.file}: has the same content as {earlier}; expected each file once")
