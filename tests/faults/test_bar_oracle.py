"""The oracle is held to K2 on whole days of corrections, cancels, repetitions and odd conditions: the two must agree.

They share no code, so an error would have to be made twice.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from bar_oracle import BAR_COLUMNS, bars_of_raw
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.bars import minute_bars, roll_up
from k2_market.feed import Conditions
from k2_market.table_schemas import BAR_INTERVALS, MINUTE, RAW_TRADES
from k2_market.trade_cleaning import clean_day

DAY = date(2026, 3, 10)
ZONE = "America/New_York"
START, END = (
    datetime(each.year, each.month, each.day, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
    for each in (DAY, DAY + timedelta(days=1))
)
PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))
NAMES = ["a", "b", "c", ""]


@st.composite
def raw_days(draw: st.DrawFn) -> pa.Table:
    """Raw rows of a day, few ids and few instants, so that much of it collides."""
    rows: list[dict[str, Any]] = []
    for offset in range(draw(st.integers(0, 14))):
        action = draw(st.sampled_from(["NEW", "NEW", "NEW", "CORRECT", "CANCEL"]))
        seconds = draw(st.sampled_from([0, 30, 60, 90, 400, 4000]))
        rows.append(
            {
                "trade_date": DAY,
                "symbol": draw(st.sampled_from(["BHP", "RIO"])),
                "exchange_timestamp": START + timedelta(hours=9, seconds=seconds),
                "sequence_number": draw(st.sampled_from([None, 1, 2])),
                "trade_id": draw(st.sampled_from(NAMES)),
                "price": draw(
                    st.sampled_from([Decimal(-1), Decimal(0), Decimal("10.01"), Decimal("10.02"), Decimal(3)])
                ),
                "quantity": draw(st.sampled_from([Decimal(-5), Decimal(0), Decimal("0.5"), Decimal(300)])),
                "side": "BUY",
                "conditions": draw(st.sampled_from([[], ["XT"], ["AV"], ["XX", "XT"]])),
                "currency": "USD",
                "action": action,
                "corrects_trade_id": None if action == "NEW" else draw(st.sampled_from([None, *NAMES])),
                "reject_reason": draw(st.sampled_from([None, None, None, None, "truncated body"])),
                "kafka_topic_id": "t",
                "kafka_partition": draw(st.integers(0, 1)),
                "kafka_offset": offset,
            }
        )
    return pa.Table.from_pylist(rows, RAW_TRADES)


@settings(max_examples=60, deadline=None)
@given(raw_days())
def test_the_oracle_and_k2_make_the_same_bars_of_any_day(raw: pa.Table) -> None:
    expected = bars_of_raw(raw, DAY, ZONE, PROFILE.no_price, PROFILE.no_volume)
    minutes = minute_bars(clean_day(raw, PROFILE).trades, START)
    for interval in BAR_INTERVALS:
        made = minutes if interval is MINUTE else roll_up(minutes, interval, START, END)
        bars = {(row["symbol"], row["bar_start"]): tuple(row[name] for name in BAR_COLUMNS) for row in made.to_pylist()}
        assert bars == expected[interval.name]
