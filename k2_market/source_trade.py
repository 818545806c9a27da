"""A trade as a source tells it, before it becomes a message: the columns that readers and simulator make."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

import polars as pl

from k2_market.errors import SourceFileError
from k2_market.table_schemas import PRICE, QUANTITY

SOURCE_TRADE = pl.Schema(
    {
        "symbol": pl.String(),
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
``corrects_trade_id``, ``sequence_number`` and ``attributes`` may be null, nothing else.
"""

_UNTOLD = {
    "side": pl.lit("UNKNOWN"),
    "conditions": pl.lit([], dtype=pl.List(pl.String())),
    "action": pl.lit("NEW"),
    "corrects_trade_id": pl.lit(None),
    "sequence_number": pl.lit(None),
    "attributes": pl.lit(None),
}


@dataclass(frozen=True)
class SourceRows:
    """What a file tells.

    Attributes:
        file: Its name.
        rows: ``SOURCE_TRADE``, in file order.
        ids_from_rows: Whether the trade ids were made from the file's name and the rows' places.
    """

    file: str
    rows: pl.DataFrame
    ids_from_rows: bool


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


def ids_from_rows(file: str, trade_dates: pl.Series) -> pl.Series:
    """Trade ids ``<file's name>:<trading day>:<n>``, ``n`` counting that day's rows in the file from 1.

    The same file gives the same ids whenever it is read. Another file of the same name gives the same ids to other
    trades, so files whose trades have no ids need names that differ.

    Example:
        >>> from datetime import date
        >>> ids_from_rows("trades/7078.csv.gz", pl.Series([date(2014, 3, 10), date(2014, 3, 10)])).to_list()
        ['7078:2014-03-10:1', '7078:2014-03-10:2']
    """
    days = pl.DataFrame({"day": trade_dates})
    place = pl.col("day").cum_count().over("day")
    return days.select(pl.format("{}:{}:{}", pl.lit(_stem(file)), pl.col("day"), place)).to_series().rename("trade_id")


def in_time_order(files: Sequence[SourceRows]) -> pl.DataFrame:
    """The rows of some files, by time, as if their exchange had told them all.

    A symbol's rows keep the order in which their file has them, also where one of them is out of time: that is the
    order in which the exchange told them. Rows of the same time stand in the order of the files.

    Raises:
        SourceFileError: Two files would give the same trade ids to different trades.
    """
    _refuse_equal_ids(files)
    if not files:
        return pl.DataFrame(schema=SOURCE_TRADE)
    # A row that is out of time goes where the latest row before it of its file and symbol goes.
    reached = pl.col("exchange_timestamp_us").cum_max().over("symbol")
    return (
        pl.concat([each.rows.with_columns(reached=reached) for each in files])
        .sort("reached", maintain_order=True)
        .drop("reached")
    )


def _refuse_equal_ids(files: Sequence[SourceRows]) -> None:
    seen: dict[tuple[str, object], str] = {}
    for each in files:
        if not each.ids_from_rows:
            continue
        for day in each.rows["trade_date"].unique():
            earlier = seen.setdefault((_stem(each.file), day), each.file)
            if earlier != each.file:
                raise SourceFileError(
                    f"{each.file}: has trades of {day} without ids, as has {earlier}; expected files whose names "
                    f"differ, since the ids are made of them ({_stem(each.file)}:{day}:1). Rename one of them."
                )


def _stem(file: str) -> str:
    name = PurePath(file).name
    return PurePath(name.removesuffix(".gz")).stem
