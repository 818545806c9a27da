"""Builders of bars for tests of those who read them: say what matters, get the rest."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from k2_market.schemas.tables import BARS

DAY = date(2014, 3, 11)

Row = dict[str, Any]


def bar(minute: int, day: date = DAY, **said: Any) -> Row:
    """A one-minute bar of BHP, 100 traded at 10, so many minutes into that UTC day."""
    start = datetime.combine(day, time(0), UTC) + timedelta(minutes=minute)
    price = said.pop("price", Decimal(10))
    return {
        "trade_date": day,
        "symbol": "BHP",
        "bar_start": start,
        "bar_end": start + timedelta(minutes=1),
        "open": price,
        "high": price,
        "low": price,
        "close": price,
        "volume": Decimal(100),
        "vwap": price,
        "notional": Decimal(1000),
        "priced_volume": Decimal(100),
        "trade_count": 1,
        "priced_count": 1,
    } | said


def unpriced(minute: int, **said: Any) -> Row:
    """A bar with volume and no price."""
    none: Row = dict.fromkeys(("open", "high", "low", "close", "vwap"))
    return bar(minute) | none | {"notional": Decimal(0), "priced_volume": Decimal(0), "priced_count": 0} | said


def bar_table(rows: Iterable[Row]) -> pa.Table:
    """``BARS`` of some rows."""
    return pa.Table.from_pylist(list(rows), schema=BARS)
