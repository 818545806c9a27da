"""What a batch brought to each trading day is what counting its rows one by one gives."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2_market.ledger.day_report import EMPTY_REPORT, DayReport, merged, reports_by_day
from k2_market.schemas.tables import RAW_TRADES

DAY = date(2014, 3, 10)
OPEN = datetime(2014, 3, 10, tzinfo=UTC)

SCHEMA = pa.schema([RAW_TRADES.field(name) for name in ("trade_date", "symbol", "exchange_timestamp", "reject_reason")])

decoded = st.fixed_dictionaries(
    {
        "trade_date": st.integers(0, 3).map(lambda days: DAY + timedelta(days=days)),
        "symbol": st.sampled_from(("BHP", "RIO", "CBA")),
        "exchange_timestamp": st.integers(0, 10**9).map(lambda us: OPEN + timedelta(microseconds=us)),
    }
)
dead = st.fixed_dictionaries(
    {
        "trade_date": st.integers(0, 3).map(lambda days: DAY + timedelta(days=days)),
        "reject_reason": st.sampled_from(("null value", "empty value")),
    }
)


def one_by_one(rows: list[dict[str, Any]]) -> dict[date, DayReport]:
    found: dict[date, DayReport] = defaultdict(lambda: EMPTY_REPORT)
    for row in rows:
        at = row.get("exchange_timestamp")
        symbols = frozenset({row["symbol"]} if "symbol" in row else ())
        found[row["trade_date"]] += DayReport(1, int("reject_reason" in row), symbols, at, at)
    return dict(sorted(found.items()))


@given(st.lists(decoded | dead), st.integers(1, 5))
def test_each_day_has_its_rows_symbols_and_times_however_rows_lie(rows: list[dict[str, Any]], chunk: int) -> None:
    parts = [pa.Table.from_pylist(rows[at : at + chunk], SCHEMA) for at in range(0, len(rows), chunk)]
    table = pa.concat_tables([SCHEMA.empty_table(), *parts])
    assert reports_by_day(table) == one_by_one(rows)


@given(st.lists(st.lists(decoded | dead)))
def test_batches_merged_are_the_batches_in_one(batches: list[list[dict[str, Any]]]) -> None:
    each = [reports_by_day(pa.Table.from_pylist(rows, SCHEMA)) for rows in batches]
    assert merged(each) == one_by_one([row for rows in batches for row in rows])
