"""Deliveries to a raw table, without a broker."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.raw.delivery import Delivery

DAY = date(2014, 3, 11)


def delivered(start: int, end: int, *, day: date = DAY) -> Delivery:
    """A delivery of the offsets ``[start, end)`` of partition 0 of topic ``t``, a trade each."""
    rows = pa.Table.from_pylist([raw_row(offset, trade_date=day) for offset in range(start, end)], schema=RAW_TRADES)
    return Delivery(rows, RangeSet.of([OffsetRange("t", 0, start, end)]), {"t": "trades"}, "run")


def raw_row(offset: int, **said: Any) -> dict[str, Any]:
    """A decoded row."""
    return {
        "trade_date": DAY,
        "symbol": "BHP",
        "exchange_timestamp": datetime(2014, 3, 11, tzinfo=UTC),
        "trade_id": f"t{offset}",
        "kafka_topic_id": "t",
        "kafka_partition": 0,
        "kafka_offset": offset,
    } | said
