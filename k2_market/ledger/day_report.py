"""Sums up a batch of raw rows by trading day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc


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


EMPTY_REPORT = DayReport(rows=0, dead_letters=0, symbols=frozenset(), first=None, last=None)


def reports_by_day(raw_rows: pa.Table) -> dict[date, DayReport]:
    """Return a report for each trading day that some raw rows belong to."""
    rows = raw_rows.select(["trade_date", "symbol", "exchange_timestamp", "reject_reason"])
    days = rows["trade_date"].value_counts()
    if len(days) > 1:
        rows = rows.sort_by("trade_date")
        days = rows["trade_date"].value_counts()
    counts = days.field("counts").to_pylist()
    starts = accumulate(counts, initial=0)
    return {
        day: _report(rows.slice(start, count))
        for day, start, count in zip(days.field("values").to_pylist(), starts, counts, strict=False)
    }


def _report(rows: pa.Table) -> DayReport:
    instants = pc.min_max(rows["exchange_timestamp"]).as_py()
    return DayReport(
        rows=rows.num_rows,
        dead_letters=rows.num_rows - rows["reject_reason"].null_count,
        symbols=frozenset(rows["symbol"].unique().drop_null().to_pylist()),
        first=instants["min"],
        last=instants["max"],
    )


def merged(reports: Iterable[Mapping[date, DayReport]]) -> dict[date, DayReport]:
    """Return the sum of several batches' reports, day by day."""
    total: dict[date, DayReport] = {}
    for each in reports:
        for day, report in each.items():
            total[day] = total.get(day, EMPTY_REPORT) + report
    return dict(sorted(total.items()))
