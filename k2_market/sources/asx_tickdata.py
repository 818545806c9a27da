"""Reads Tick Data's ASX trade files: no header, a file a company, times in Sydney.

Columns: date ``MM/DD/YYYY``, time ``HH:MM:SS.mmm``, price, volume, condition code, exclude flag (``X`` or empty),
filtered price (or empty). The file's name is the company's id (``7078.csv.gz``); ``company_info.csv`` says which
symbol a company had when.
"""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePath

import polars as pl

from k2_market.feeds.feed import Feed
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.columns import decimals, local_instants_us
from k2_market.sources.limits import refuse_unsendable
from k2_market.sources.table import SourceTable
from k2_market.sources.trade import SourceRows, as_source_trades, content_hash, ids_from_rows

COLUMNS = ("date", "time", "price", "volume", "condition", "exclude_flag", "filtered_price")

COMPANY_INFO = PurePath("..", "reference", "company_info.csv")
"""Path of the vendor's file of symbols, relative to a directory of trade files."""

_COMPANY_COLUMNS = ("company_id", "symbol", "start_date", "end_date")
_COMPANY_OTHER_COLUMNS = ("company_name", "ISIN")
_DATE = "%m/%d/%Y"


@dataclass(frozen=True)
class Companies:
    """Describes which symbol a company had when, both days included: ``company_id``, ``symbol``, ``start``, ``end``."""

    file: str
    periods: pl.DataFrame

    def symbol(self, company_id: str, day: date) -> str | None:
        """Return a company's symbol on a day, if it had one."""
        held = self.periods.filter(
            (pl.col("company_id") == company_id) & (pl.col("start") <= day) & (pl.col("end") >= day)
        )
        return None if held.is_empty() else str(held["symbol"][-1])


def read_companies(content: bytes, file: str) -> Companies:
    """Return the vendor's ``company_info.csv``.

    Raises:
        SourceFileError: A column is missing or a date is none.
    """
    table = SourceTable.with_header(content, file, _COMPANY_COLUMNS, _COMPANY_OTHER_COLUMNS)
    return Companies(
        file,
        pl.DataFrame(
            {
                "company_id": table.columns["company_id"],
                "symbol": table.columns["symbol"],
                "start": _dates(table, "start_date"),
                "end": _dates(table, "end_date"),
            }
        ),
    )


def read_trades(content: bytes, file: str, feed: Feed, now: datetime, companies: Companies) -> SourceRows:
    """Return the trades of one company's file.

    Exclude flag and filtered price go into ``attributes``: what counts is decided by the feed's conditions profile.

    Args:
        content: The file, not compressed.
        file: Its name: the company's id, before the first full stop.
        feed: Whose trades they are.
        now: The present: when the trades are received.
        companies: Which symbol the company had when.

    Raises:
        SourceFileError: Something can't be read, or must not be sent; names file, row and column.
    """
    table = SourceTable.without_header(content, file, COLUMNS)
    days = _dates(table, "date")
    rows = as_source_trades(
        pl.DataFrame(
            {
                "symbol": _symbols(table, days, companies),
                "exchange_timestamp_us": local_instants_us(table, _local_times(table, days), feed.zone, "time"),
                "trade_date": days,
                "trade_id": ids_from_rows(content, days),
                "price": decimals(table, "price", PRICE),
                "quantity": decimals(table, "volume", QUANTITY),
                "conditions": _conditions(table),
                "attributes": _attributes(table),
            }
        ),
        received=now,
    )
    refuse_unsendable(table, rows, feed, now, "time", quantity_column="volume")
    return SourceRows(file, rows, ids_from_rows=True, content_hash=content_hash(content))


def _dates(table: SourceTable, column: str) -> pl.Series:
    found = table.columns[column].str.to_date(_DATE, strict=False)
    table.refuse_unless(found.is_not_null(), column, "a date such as 03/31/2014 (month first)")
    return found


def _local_times(table: SourceTable, days: pl.Series) -> pl.Series:
    time = table.columns["time"]
    table.refuse_unless(
        time.str.contains(r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?$"), "time", "a time such as 13:50:38.849"
    )
    local = (days.cast(pl.String) + "T" + time).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    table.refuse_unless(local.is_not_null(), "time", "a time of day that exists")
    return local


def _symbols(table: SourceTable, days: pl.Series, companies: Companies) -> pl.Series:
    company_id = PurePath(table.file).name.partition(".")[0]
    symbols = {day: companies.symbol(company_id, day) for day in days.unique()}
    found = days.replace_strict(list(symbols), list(symbols.values()), return_dtype=pl.String)
    table.refuse_unless(
        found.is_not_null(), "date", f"a day on which {companies.file} has a symbol for company {company_id!r}"
    )
    return found


def _conditions(table: SourceTable) -> pl.Series:
    code = table.columns["condition"]
    table.refuse_unless(code.str.contains(r"^[0-9A-Za-z]+$"), "condition", "a condition code")
    return pl.DataFrame({"code": code}).select(pl.concat_list("code")).to_series()


def _attributes(table: SourceTable) -> pl.Series:
    flag = table.columns["exclude_flag"]
    table.refuse_unless(flag.is_in(["", "X"]), "exclude_flag", "'X' or nothing")
    pairs = [pl.struct(key=pl.lit(name), value=pl.col(name)) for name in ("exclude_flag", "filtered_price")]
    told = pl.concat_list(pairs).list.eval(pl.element().filter(pl.element().struct.field("value") != ""))
    return table.columns.select(pl.when(told.list.len() > 0).then(told).alias("attributes")).to_series()
