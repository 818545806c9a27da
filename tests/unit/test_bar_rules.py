from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import DAY, LEAST_PRICE, MIDNIGHT, OPEN, TRADES_OF_A_DAY, Row, at, trade, trades_table

from k2_market.bar_rules import bar_invariants, roll_up_identity
from k2_market.bars import minute_bars, roll_up
from k2_market.finding import Severity
from k2_market.table_schemas import BARS, ROLLED_UP
from k2_market.table_schemas import DAY as ONE_DAY

NEXT_MIDNIGHT = MIDNIGHT + timedelta(days=1)


def bar(**said: object) -> Row:
    return {
        "trade_date": DAY,
        "symbol": "BHP",
        "bar_start": OPEN,
        "bar_end": OPEN + timedelta(minutes=1),
        "open": Decimal(10),
        "high": Decimal(12),
        "low": Decimal(9),
        "close": Decimal(11),
        "volume": Decimal(7),
        "vwap": Decimal(31) / 3 // LEAST_PRICE * LEAST_PRICE,
        "notional": Decimal(31),
        "priced_volume": Decimal(3),
        "trade_count": 3,
        "priced_count": 2,
    } | said


def bars_table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=BARS)


UNPRICED = dict.fromkeys(["open", "high", "low", "close", "vwap"]) | {
    "notional": Decimal(0),
    "priced_volume": Decimal(0),
    "priced_count": 0,
}
ZERO_QUANTITY = {"vwap": None, "notional": Decimal(0), "priced_volume": Decimal(0)}


@pytest.mark.parametrize("said", [{}, UNPRICED, ZERO_QUANTITY], ids=["priced", "unpriced", "quantity zero"])
def test_a_possible_bar_passes(said):
    finding = bar_invariants(bars_table(bar(**said)))

    assert finding.passed
    assert finding.numbers["broken"] == 0


@pytest.mark.parametrize(
    ("invariant", "said"),
    [
        ("prices_in_range", {"open": Decimal(13)}),
        ("prices_in_range", {"close": Decimal(8)}),
        ("prices_in_range", {"low": Decimal(12), "high": Decimal(9)}),
        ("prices_positive", {"low": Decimal(0)}),
        ("prices_positive", {"low": Decimal(-1)}),
        ("prices_present_when_priced", {"open": None}),
        ("prices_present_when_priced", UNPRICED | {"close": Decimal(1)}),
        ("vwap_in_range", {"vwap": Decimal(8)}),
        ("vwap_is_notional_by_volume", {"vwap": Decimal(31) / 3 // LEAST_PRICE * LEAST_PRICE + LEAST_PRICE}),
        ("vwap_is_notional_by_volume", {"vwap": None}),
        ("vwap_is_notional_by_volume", {"priced_volume": Decimal(0)}),
        ("sums_not_negative", {"volume": Decimal(-1)}),
        ("sums_zero_without_trades", {"trade_count": 0}),
        ("sums_zero_without_trades", {"priced_count": 0}),
        ("made_of_trades", UNPRICED | {"trade_count": 0, "volume": Decimal(0)}),
        ("ends_after_start", {"bar_end": OPEN}),
    ],
)
def test_each_invariant_is_missed_when_it_is_broken(invariant, said):
    finding = bar_invariants(bars_table(bar(symbol="ANZ"), bar(**said)))

    assert (finding.passed, finding.severity) == (False, Severity.ERROR)
    assert (finding.numbers["bars"], finding.numbers["broken"], finding.numbers[invariant]) == (2, 1, 1)
    assert finding.examples[0]["symbol"] == "BHP"
    assert invariant in str(finding.examples[0]["broken"]).split(", ")


def test_bars_of_a_symbol_that_share_time_overlap():
    later = bar(bar_start=at(30), bar_end=at(90))

    for rows in ([bar(), bar()], [later, bar()]):
        finding = bar_invariants(bars_table(*rows))
        assert (finding.passed, finding.numbers["no_overlap"]) == (False, 1)
    assert bar_invariants(bars_table(bar(), later | {"symbol": "RIO"})).passed
    assert bar_invariants(bars_table(bar(), bar(bar_start=at(60), bar_end=at(120)))).passed


def test_bars_of_two_days_are_not_one_days_bars():
    other = bar(symbol="RIO", trade_date=DAY + timedelta(days=1))

    assert bar_invariants(bars_table(bar(), other)).numbers["of_one_day"] == 1


def test_no_bars_break_nothing():
    assert bar_invariants(bars_table()).passed
    assert roll_up_identity(bars_table(), trades_table([])).passed


@given(TRADES_OF_A_DAY, st.sampled_from(ROLLED_UP))
@settings(max_examples=40, deadline=None)
def test_bars_made_of_any_trades_hold_and_equal_their_trades(rows, interval):
    trades = trades_table(trade(offset, **row) for offset, row in enumerate(rows))
    minutes = minute_bars(trades, MIDNIGHT)

    assert bar_invariants(minutes).passed
    assert bar_invariants(roll_up(minutes, interval, MIDNIGHT, NEXT_MIDNIGHT)).passed
    assert roll_up_identity(roll_up(minutes, ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT), trades).passed


ROWS = [
    trade(0, price=Decimal(10)),
    trade(1, price=Decimal(9), exchange_timestamp=at(1)),
    trade(2, price=Decimal(12), exchange_timestamp=at(100)),
    trade(3, price=Decimal(11), exchange_timestamp=at(200)),
    trade(4, price=Decimal(99), exchange_timestamp=at(200), price_eligible=False),
]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("open", Decimal(9)),
        ("high", Decimal(13)),
        ("low", Decimal(8)),
        ("close", Decimal(12)),
        ("volume", Decimal(501)),
        ("notional", Decimal(4201)),
        ("priced_volume", Decimal(401)),
        ("trade_count", 6),
        ("priced_count", 5),
    ],
)
def test_a_daily_bar_that_differs_in_one_column_is_found(column, value):
    trades = trades_table(ROWS)
    (day,) = roll_up(minute_bars(trades, MIDNIGHT), ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT).to_pylist()

    finding = roll_up_identity(bars_table(day | {column: value}), trades)

    assert (finding.passed, finding.severity) == (False, Severity.ERROR)
    assert finding.numbers == {"symbols": 1, "different": 1}
    (example,) = finding.examples
    assert (example["symbol"], example["column"]) == ("BHP", column)
    assert Decimal(str(example["bar"])) == value != Decimal(str(example["trades"]))


def test_a_symbol_without_its_daily_bar_is_found():
    finding = roll_up_identity(bars_table(), trades_table(ROWS))

    assert (finding.passed, finding.numbers["different"]) == (False, 1)
    assert {row["bar"] for row in finding.examples} == {"none"}


def test_a_daily_bar_without_trades_is_found():
    finding = roll_up_identity(bars_table(bar()), trades_table([]))

    assert (finding.passed, finding.numbers["different"]) == (False, 1)
    assert {row["trades"] for row in finding.examples} == {"none"}


def test_trades_of_one_instant_are_put_in_order_by_the_rule_too():
    rows = [trade(3, price=Decimal(3)), trade(1, price=Decimal(1)), trade(2, sequence_number=1, price=Decimal(2))]
    (day,) = roll_up(minute_bars(trades_table(rows), MIDNIGHT), ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT).to_pylist()

    assert (day["open"], day["close"]) == (1, 2)
    assert roll_up_identity(bars_table(day), trades_table(rows)).passed
    assert not roll_up_identity(bars_table(day | {"close": Decimal(3)}), trades_table(rows)).passed
