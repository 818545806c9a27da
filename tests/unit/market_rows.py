"""Builders of rows for tests of the domain, and generators of whole days: say what matters, get the rest."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from k2_market.frames.day_batches import DayBatches
from k2_market.schemas.tables import PRICE, QUANTITY, RAW_TRADES, TRADES
from k2_resources.iceberg.day_rows import compacted

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


def batches(rows: pa.Table, rows_a_batch: int = 1_000) -> DayBatches:
    """A day's rows as rules go through them."""
    as_read = rows.cast(compacted(rows.schema))

    def read(*columns: str) -> Iterator[pa.Table]:
        for start in range(0, rows.num_rows, rows_a_batch):
            yield as_read.slice(start, rows_a_batch).select(columns)

    return read


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
    """``TRADES`` of some rows, as they stand; without a trade_order they get that of the market."""
    made = list(rows)
    orders: dict[int, int] = {}
    heard: Counter[str] = Counter()
    for place in sorted(range(len(made)), key=lambda place: _market_order(made[place])):
        heard[made[place]["symbol"]] += 1
        orders[place] = heard[made[place]["symbol"]]
    return pa.Table.from_pylist(
        [{"trade_order": orders[place], **row} for place, row in enumerate(made)], schema=TRADES
    )


def _market_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    number = row.get("sequence_number")
    kafka = (row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"])
    return row["symbol"], row["exchange_timestamp"], (number is not None, number or 0), kafka[1:], kafka[0]


CONDITIONS = st.lists(st.sampled_from(["XT", "AV", "ON"]), max_size=2)
SYMBOLS = ["ANZ", "BHP", "CBA", "RIO", "WES", "WOW"]
IDS = ["t1", "t2", "t3", "t4"]


@st.composite
def messages(draw: st.DrawFn, symbols: int = 2, max_size: int = 12) -> list[Row]:
    """A day's messages with ids; a symbol's are in one partition, as on Kafka."""
    said = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "symbol": st.sampled_from(SYMBOLS[:symbols]),
                    "action": st.sampled_from(["NEW", "NEW", "NEW", "CORRECT", "CANCEL"]),
                    "trade_id": st.sampled_from(IDS),
                    "corrects_trade_id": st.sampled_from([None, None, *IDS]),
                    "exchange_timestamp": st.integers(0, 3).map(at),
                    "sequence_number": st.none() | st.integers(1, 3),
                    "price": st.sampled_from([Decimal(-1), Decimal(0), Decimal("10.5"), Decimal(11)]),
                    "quantity": st.sampled_from([Decimal(-1), Decimal(0), Decimal(5)]),
                    "conditions": CONDITIONS,
                }
            ),
            max_size=max_size,
        )
    )
    return [
        message(offset, **values, kafka_partition=SYMBOLS.index(values["symbol"])) for offset, values in enumerate(said)
    ]


LEAST_PRICE, LEAST_QUANTITY = (Decimal(1).scaleb(-kind.scale) for kind in (PRICE, QUANTITY))
LARGEST_PRICE, LARGEST_QUANTITY = ((10**18 - 1) * least for least in (LEAST_PRICE, LEAST_QUANTITY))


def multiples(least: Decimal) -> st.SearchStrategy[Decimal]:
    """All that a column of 18 digits holds, and often whole numbers that recur."""
    return st.integers(1, 10**18 - 1).map(lambda units: units * least) | st.integers(1, 400).map(Decimal)


TRADES_OF_A_DAY = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["ANZ", "BHP", "Żubr"]),
            "exchange_timestamp": st.integers(-8 * 3600, 30 * 3600).map(lambda s: MIDNIGHT + timedelta(seconds=s))
            | st.integers(0, 400).map(at),
            "sequence_number": st.none() | st.integers(1, 5),
            "price": multiples(LEAST_PRICE),
            "quantity": multiples(LEAST_QUANTITY) | st.just(Decimal(0)),
            "price_eligible": st.booleans(),
            "volume_eligible": st.booleans(),
        }
    ),
    max_size=25,
)
"""What is said of a day's trades; ``trade(offset, **said)`` makes them whole."""
