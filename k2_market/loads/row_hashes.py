"""Hashes a file's rows by trading day, regardless of order and ids, so that rows are recognised under any name."""

from dataclasses import dataclass
from datetime import date
from hashlib import sha256

import polars as pl

_ROW = ("symbol", "exchange_timestamp_us", "price", "quantity", "action")
_IDENTITY = ("trade_id", "corrects_trade_id", "exchange")
_ROWS_AT_ONCE = 100_000
_DIGITS = 32


@dataclass(frozen=True)
class DayOfRows:
    """Describes a trading day's rows of a file.

    Attributes:
        day: The trading day.
        rows: How many.
        rows_hash: The same for the same symbols, times, prices, quantities and actions, however they are ordered.
        ids_hash: The same where trade ids are the same, too.
    """

    day: date
    rows: int
    rows_hash: str
    ids_hash: str


def days_of_rows(trades: pl.DataFrame) -> tuple[DayOfRows, ...]:
    """Hash the rows of each trading day.

    Args:
        trades: ``SOURCE_TRADE``.
    """
    days = trades.select("trade_date", *_ROW, *_IDENTITY).partition_by("trade_date", as_dict=True)
    return tuple(
        DayOfRows(day, rows.height, _hash(rows, _ROW), _hash(rows, (*_ROW, *_IDENTITY)))
        for (day,), rows in sorted(days.items())
    )


def _hash(rows: pl.DataFrame, columns: tuple[str, ...]) -> str:
    digest = sha256()
    texts = [_plain(rows[name]) for name in columns]
    ordered = pl.DataFrame(texts).sort(columns)
    for part in ordered.iter_slices(_ROWS_AT_ONCE):
        lines = part.select(pl.concat_str(pl.all(), separator="\x1f")).to_series()
        digest.update("\n".join(lines.to_list()).encode() + b"\n")
    return digest.hexdigest()[:_DIGITS]


def _plain(column: pl.Series) -> pl.Series:
    """Return a column as text; decimals without trailing zeros, so that hashes do not depend on a column's scale."""
    texts = column.cast(pl.String).fill_null("")
    return texts.str.strip_chars_end("0").str.strip_chars_end(".") if column.dtype.is_decimal() else texts
