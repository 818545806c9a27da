"""Bars trade by trade in Python's decimals, held against those that K2 publishes."""

from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from market_rows import MIDNIGHT, at, messages, raw_table, trade, trades_table

from k2_market.bar_recomputation import bar_violations, plain_bars
from k2_market.bars import minute_bars, roll_up
from k2_market.feed import Conditions
from k2_market.table_schemas import BAR_INTERVALS, DAY, MINUTE, BarInterval
from k2_market.trade_cleaning import clean_day

END = MIDNIGHT + timedelta(days=1)


def published(trades: pa.Table, interval: BarInterval) -> pa.Table:
    minutes = minute_bars(trades, MIDNIGHT)
    return minutes if interval is MINUTE else roll_up(minutes, interval, MIDNIGHT, END)


def wrong(trades: pa.Table, bars: pa.Table, interval: BarInterval) -> list[str]:
    found = bar_violations(interval, bars, plain_bars(trades, MIDNIGHT, END)[interval])
    return [place for each in found for place in each.where]


@settings(deadline=None, max_examples=30)
@given(messages())
def test_bars_of_whatever_day_are_what_its_trades_amount_to(rows: list[dict[str, object]]) -> None:
    profile = Conditions(no_price=frozenset({"XT"}), no_volume=frozenset({"AV"}))
    trades = clean_day(raw_table(rows), profile).trades
    for interval in BAR_INTERVALS:
        assert wrong(trades, published(trades, interval), interval) == []


@pytest.mark.parametrize("interval", [MINUTE, DAY])
def test_a_bar_that_is_wrong_missing_doubled_or_of_nothing_is_named(interval: BarInterval) -> None:
    trades = trades_table([trade(1), trade(2, symbol="RIO", exchange_timestamp=at(5))])
    bars = published(trades, interval)
    start = bars["bar_start"][0].as_py().isoformat()
    wrong_close = bars.to_pylist()
    wrong_close[0]["close"] += Decimal("0.01")
    assert wrong(trades, pa.Table.from_pylist(wrong_close, bars.schema), interval) == [
        f"BHP {start}: close is 10.0100000000, the trades give 10.0000000000"
    ]
    assert wrong(trades, bars.slice(1), interval) == [f"BHP {start}: missing"]
    assert wrong(trades, pa.concat_tables([bars, bars.slice(0, 1)]), interval) == [f"BHP {start}: there twice"]
    assert wrong(trades.slice(1), bars, interval) == [f"BHP {start}: there are no trades for it"]
