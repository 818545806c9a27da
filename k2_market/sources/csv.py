"""Reads K2's own CSV format of trades, whose header names the columns."""

from datetime import datetime

import polars as pl

from k2_market.feeds.feed import Feed
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.columns import dates, decimals, instants_us, integers
from k2_market.sources.limits import refuse_unsendable, trading_days
from k2_market.sources.table import SourceTable
from k2_market.sources.trade import SourceRows, as_source_trades, content_hash, ids_from_rows
from k2_market.values.plain_texts import code_fault, split_codes

REQUIRED = ("symbol", "exchange_timestamp", "price", "quantity")
OPTIONAL = (
    "trade_id",
    "side",
    "conditions",
    "sequence_number",
    "trade_date",
    "action",
    "corrects_trade_id",
    "exchange",
)
SIDES = ("BUY", "SELL", "SELL_SHORT", "UNKNOWN")
ACTIONS = ("NEW", "CORRECT", "CANCEL")
_CODES: dict[str, pl.DataType] = {"codes": pl.List(pl.String)}


def read_trades(content: bytes, file: str, feed: Feed, now: datetime) -> SourceRows:
    """Return the trades of a CSV file.

    ``exchange_timestamp`` is ISO 8601 with an offset, or whole microseconds since 1970 UTC. ``trade_date`` is, where
    the file has no such column, the trading day by the feed's calendar; ``conditions`` have ``|``, a comma or the like
    between them; a trade without ``trade_id`` column gets one made of the file's content, day and row.

    Args:
        content: The file, not compressed.
        file: Its name, for errors.
        feed: Whose trades they are.
        now: The present: when the trades are received.

    Raises:
        SourceFileError: Something can't be read, or must not be sent; names file, row and column.
    """
    table = SourceTable.with_header(content, file, REQUIRED, OPTIONAL)
    time_us = instants_us(table, "exchange_timestamp")
    told = {
        "symbol": table.columns["symbol"],
        "exchange_timestamp_us": time_us,
        "trade_date": dates(table, "trade_date") if "trade_date" in table else trading_days(time_us, feed),
        "price": decimals(table, "price", PRICE),
        "quantity": decimals(table, "quantity", QUANTITY),
    }
    has_ids = "trade_id" in table
    told["trade_id"] = present(table, "trade_id") if has_ids else ids_from_rows(content, told["trade_date"])
    told |= _optional_columns(table)
    rows = as_source_trades(pl.DataFrame(told), received=now)
    refuse_unsendable(table, rows, feed, now, "exchange_timestamp")
    return SourceRows(file, rows, ids_from_rows=not has_ids, content_hash=content_hash(content))


def _optional_columns(table: SourceTable) -> dict[str, pl.Series]:
    told = {}
    if "side" in table:
        told["side"] = one_of(table, "side", SIDES, when_empty="UNKNOWN")
    if "action" in table:
        told["action"] = one_of(table, "action", ACTIONS, when_empty="NEW")
    if "conditions" in table:
        told["conditions"] = conditions(table, "conditions")
    if "sequence_number" in table:
        told["sequence_number"] = integers(table, "sequence_number")
    if "exchange" in table:
        told["exchange"] = table.columns["exchange"].replace("", None)
    if "corrects_trade_id" in table:
        told["corrects_trade_id"] = table.columns["corrects_trade_id"].replace("", None)
    return told


def one_of(table: SourceTable, column: str, words: tuple[str, ...], when_empty: str) -> pl.Series:
    """Return a column of some words, in upper or lower case.

    Raises:
        SourceFileError: Another word.
    """
    found = table.columns[column].str.strip_chars().str.to_uppercase().replace("", when_empty)
    table.refuse_unless(found.is_in(words), column, " or ".join(words))
    return found


def conditions(table: SourceTable, column: str) -> pl.Series:
    """Read a column of condition codes, divided by white space or any of ``plain_texts.SEPARATORS``.

    Raises:
        SourceFileError: Something in it is no code, such as a bracket.
    """
    texts = table.columns[column]
    codes = {text: split_codes(text) for text in texts.unique()}
    for text, found in codes.items():
        fault = next((fault for code in found if (fault := code_fault(code)) is not None), None)
        if fault is not None:
            table.refuse_unless(texts != text, column, f"condition codes with | between them; {fault}")
    lists = pl.DataFrame({column: list(codes), "codes": list(codes.values())}, schema=_CODES | {column: pl.String})
    return texts.to_frame().join(lists.select(column, "codes"), on=column, how="left", maintain_order="left")["codes"]


def present(table: SourceTable, column: str) -> pl.Series:
    """Return a column without empty values.

    Raises:
        SourceFileError: A value is empty.
    """
    found = table.columns[column]
    table.refuse_unless(found != "", column, "an id for every trade, or no such column")
    return found
