"""What a batch of raw rows brought to each trading day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
import pyarrow as pa


@dataclass(frozen=True)
class DayReport:
    """Rows that one or more batches added to a trading day.

    Attributes:
        rows: All of them, dead letters included.
        dead_letters: Those that would not decode.
        symbols: Symbols seen.
        first: Earliest exchange timestamp; None if every row is a dead letter.
        last: Latest exchange timestamp.
    """

    rows: int
    dead_letters: int
    symbols: frozenset[str]
    first: datetime | None
    last: datetime | None

    def __add__(self, other: "DayReport") -> "DayReport":
        firsts = [each for each in (self.first, other.first) if each is not None]
        lasts = [each for each in (self.last, other.last) if each is not None]
        return DayReport(
            rows=self.rows + other.rows,
            dead_letters=self.dead_letters + other.dead_letters,
            symbols=self.symbols | other.symbols,
            first=min(firsts, default=None),
            last=max(lasts, default=None),
        )


NOTHING = DayReport(rows=0, dead_letters=0, symbols=frozenset(), first=None, last=None)


def reports_by_day(raw_rows: pa.Table) -> dict[date, DayReport]:
    """A report for each trading day that some raw rows belong to."""
    columns = raw_rows.select(["trade_date", "symbol", "exchange_timestamp", "reject_reason"])
    frame = pl.from_arrow(columns)
    assert isinstance(frame, pl.DataFrame)
    days = frame.group_by("trade_date").agg(
        pl.len().alias("rows"),
        pl.col("reject_reason").count().alias("dead_letters"),
        pl.col("symbol").drop_nulls().unique().alias("symbols"),
        pl.col("exchange_timestamp").min().alias("first"),
        pl.col("exchange_timestamp").max().alias("last"),
    )
    return {
        row["trade_date"]: DayReport(
            row["rows"], row["dead_letters"], frozenset(row["symbols"]), row["first"], row["last"]
        )
        for row in days.iter_rows(named=True)
    }


def merged(reports: Iterable[Mapping[date, DayReport]]) -> dict[date, DayReport]:
    """The sum of several batches' reports, day by day."""
    total: dict[date, DayReport] = {}
    for each in reports:
        for day, report in each.items():
            total[day] = total.get(day, NOTHING) + report
    return dict(sorted(total.items()))
