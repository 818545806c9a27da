"""Builders of rows for tests of the domain: say what matters, get the rest."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from k2_market.table_schemas import RAW_TRADES, TRADES

DAY = date(2026, 3, 10)
MIDNIGHT = datetime(2026, 3, 10, 4, tzinfo=UTC)
"""Midnight of that day in New York."""
OPEN = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)

Row = dict[str, Any]


def at(seconds: float) -> datetime:
    """An instant so many seconds after the open."""
    return OPEN + timedelta(seconds=seconds)


def message(offset: int, **said: Any) -> Row:
    """A raw row: a ``NEW`` message of BHP, 100 at 10.00, at the open; its trade_id is ``t<offset>``."""
    return {
        "trade_date": DAY,
        "symbol": "BHP",
        "exchange_timestamp": OPEN,
        "trade_id": f"t{offset}",
        "price": Decimal("10.00"),
        "quantity": Decimal(100),
        "side": "BUY",
        "conditions": [],
        "action": "NEW",
        "currency": "AUD",
        "message_id": f"m{offset}",
        "kafka_topic_id": "topic-a",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "schema_id": 1,
    } | said


def dead_letter(offset: int, reason: str = "truncated body", **said: Any) -> Row:
    """A raw row that would not decode."""
    return {
        "trade_date": DAY,
        "kafka_topic_id": "topic-a",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "reject_reason": reason,
        "payload": b"\x00",
    } | said


def raw_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """``RAW_TRADES`` of some rows."""
    return pa.Table.from_pylist(list(rows), schema=RAW_TRADES)


def trade(offset: int, **said: Any) -> Row:
    """A clean, eligible trade of BHP, 100 at 10.00, at the open."""
    return {
        "trade_date": DAY,
        "symbol": "BHP",
        "exchange_timestamp": OPEN,
        "trade_id": f"t{offset}",
        "price": Decimal("10.00"),
        "quantity": Decimal(100),
        "side": "BUY",
        "conditions": [],
        "currency": "AUD",
        "price_eligible": True,
        "volume_eligible": True,
        "corrected": False,
        "kafka_topic_id": "topic-a",
        "kafka_partition": 0,
        "kafka_offset": offset,
    } | said


def trades_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """``TRADES`` of some rows, in the order given."""
    return pa.Table.from_pylist(list(rows), schema=TRADES)
