from collections.abc import Callable, Iterable
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import (
    DAY,
    LARGEST_PRICE,
    LARGEST_QUANTITY,
    LEAST_PRICE,
    MIDNIGHT,
    OPEN,
    TRADES_OF_A_DAY,
    Row,
    at,
    trade,
    trades_table,
)

from k2_market.bars import minute_bars, roll_up
from k2_market.feeds.feed import PriceRange
from k2_market.quality.bar_rules import bar_invariants, bars_complete, roll_up_identity
from k2_market.quality.finding import Severity
from k2_market.schemas.tables import BARS, MINUTE, ROLLED_UP
from k2_market.schemas.tables import DAY as ONE_DAY
from k2_resources.iceberg.day_rows import compacted

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


TOO_MANY = [
    trade(offset, symbol="RIO", price=LARGEST_PRICE, quantity=LARGEST_QUANTITY, exchange_timestamp=at(60 * offset))
    for offset in range(120)
]
"""Trades whose minutes are bars, and whose day is more than a bar can hold."""


def reading(rows: Iterable[Row]) -> Callable[..., pa.Table]:
    """What reads columns of some trades, as a day's are read."""
    table = trades_table(rows)
    as_read = table.cast(compacted(table.schema))
    return lambda *columns: as_read.select(columns)


def test_a_symbol_that_is_kept_back_is_no_difference_from_its_trades_and_is_told_by_its_own_check():
    trades = trades_table([*ROWS, *TOO_MANY])
    minutes = minute_bars(trades, MIDNIGHT)
    days = roll_up(minutes, ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT)

    assert roll_up_identity(days, trades).passed
    assert bars_complete(MINUTE, minutes, reading([*ROWS, *TOO_MANY])).passed
    told = bars_complete(ONE_DAY, days, reading([*ROWS, *TOO_MANY]))
    assert (told.passed, told.severity) == (False, Severity.ERROR)
    assert told.description == "1 of 2 symbols have no bars of 1d, for their sums are too large for a bar."
    assert told.numbers == {"symbols": 2, "without_bars": 1}
    assert told.examples == (
        {"symbol": "RIO", "interval": "1d", "trades": 120, "notional": "1.2e+20", "volume": "1.2e+12"},
    )


def test_bars_that_are_missing_without_a_reason_are_told_as_such():
    told = bars_complete(MINUTE, bars_table(), reading(ROWS))
    assert not told.passed
    assert told.description.endswith("and 1 of these for no reason that their trades give.")


def test_bars_are_complete_where_symbols_have_no_eligible_trade():
    rows = [trade(0, price_eligible=False, volume_eligible=False), trade(1, symbol="RIO", price_eligible=False)]
    assert bars_complete(MINUTE, minute_bars(trades_table(rows), MIDNIGHT), reading(rows)).passed
    assert bars_complete(MINUTE, bars_table(), reading([])).passed


def test_prices_are_read_only_where_a_symbol_has_no_bars():
    read: list[str] = []

    def trades(*columns: str) -> pa.Table:
        read.extend(columns)
        return reading(ROWS)(*columns)

    bars_complete(MINUTE, minute_bars(trades_table(ROWS), MIDNIGHT), trades)
    assert "price" not in read


def test_a_wrong_bar_of_a_symbol_that_should_be_kept_back_is_found():
    (day,) = roll_up(minute_bars(trades_table(ROWS), MIDNIGHT), ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT).to_pylist()
    finding = roll_up_identity(bars_table(day, {**day, "symbol": "RIO"}), trades_table([*ROWS, *TOO_MANY[:99]]))
    assert (finding.passed, finding.numbers["different"]) == (False, 1)


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


def test_a_bar_below_zero_is_possible_only_where_prices_may_be_any():
    below = bar(
        open=Decimal(-1), high=Decimal(-1), low=Decimal(-2), close=Decimal(-2), vwap=Decimal(-2), notional=Decimal(-2),
        priced_volume=Decimal(1), priced_count=1, trade_count=1, volume=Decimal(1),
    )  # fmt: skip

    assert bar_invariants(bars_table(below), PriceRange.ANY).passed
    assert bar_invariants(bars_table(below)).numbers["prices_positive"] == 1
