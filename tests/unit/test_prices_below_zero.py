"""Crude oil futures on 2020-04-20: trades below zero, in trades, bars, checks and their recomputation."""

from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from market_rows import MIDNIGHT, Row, at, message, raw_table
from repository import SHIPPED_FEEDS

from k2_market.bars import minute_bars, roll_up
from k2_market.feeds.feed import Conditions, Feed, Price, PriceRange, load_feeds
from k2_market.plans.build_rules import BuildRules
from k2_market.quality.bar_rules import bar_invariants, roll_up_identity
from k2_market.quality.trade_rules import prices_positive
from k2_market.schemas.tables import BAR_INTERVALS, DAY, MINUTE
from k2_market.trades.cleaning import clean_day
from k2_market.verification.bar_recomputation import bar_differences, bars_of_symbol
from k2_market.verification.trade_recomputation import (
    Eligibility,
    messages_by_symbol,
    trade_differences,
    trades_of_symbol,
)

NEXT_MIDNIGHT = MIDNIGHT + timedelta(days=1)
NO_CODES = Conditions()
PRICES = ["1.00", "-0.01", "-37.63", "-40.32", "-13.10"]
WTI = [
    message(n, exchange_timestamp=at(600 * n), price=Decimal(p), quantity=Decimal(n + 1)) for n, p in enumerate(PRICES)
]


def daily(rows: list[Row], may_be: PriceRange) -> Row:
    trades = clean_day(raw_table(rows), NO_CODES, price_may_be=may_be).trades
    (bar,) = roll_up(minute_bars(trades, MIDNIGHT), DAY, MIDNIGHT, NEXT_MIDNIGHT).to_pylist()
    return bar


def test_the_bar_of_crude_oils_day_below_zero_is_exact_where_the_feed_says_so() -> None:
    bar = daily(WTI, PriceRange.ANY)

    prices = tuple(bar[name] for name in ("open", "high", "low", "close"))
    assert prices == (Decimal("1.00"), Decimal("1.00"), Decimal("-40.32"), Decimal("-13.10"))
    assert (bar["volume"], bar["trade_count"], bar["notional"]) == (15, 5, Decimal("-338.69"))
    assert bar["vwap"] == Decimal("-22.5793333333")


def test_prices_below_zero_stay_out_of_bars_and_are_told_where_the_feed_has_none() -> None:
    trades = clean_day(raw_table(WTI), NO_CODES).trades

    assert daily(WTI, PriceRange.POSITIVE)["trade_count"] == 1
    assert prices_positive(trades).numbers == {"nonpositive": 4, "eligible_nonpositive": 0}


def test_the_check_of_prices_looks_at_quantities_alone_where_prices_may_be_any() -> None:
    rows = [*WTI, message(9, quantity=Decimal(-1))]
    trades = clean_day(raw_table(rows), NO_CODES, price_may_be=PriceRange.ANY).trades

    finding = prices_positive(trades, PriceRange.ANY)
    assert finding.numbers == {"nonpositive": 1, "eligible_nonpositive": 0}
    assert not finding.passed


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4), st.integers(0, 200)), min_size=1, max_size=12))
@example([(-1, 1, 0), (0, 1, 0)])  # a half of the last place below zero
def test_bars_of_prices_of_any_sign_are_those_of_the_recomputation(drawn: list[tuple[int, int, int]]) -> None:
    rows = [
        message(n, exchange_timestamp=at(seconds), price=Decimal(price) / 10**10, quantity=Decimal(quantity))
        for n, (price, quantity, seconds) in enumerate(drawn)
    ]
    raw = raw_table(rows)
    trades = clean_day(raw, NO_CODES, price_may_be=PriceRange.ANY).trades
    expected = trades_of_symbol(dict(messages_by_symbol(raw, []))["BHP"], [], lambda _: False)
    eligibility = Eligibility(frozenset(), frozenset(), any_price=True)
    minutes = minute_bars(trades, MIDNIGHT)
    assert trade_differences("BHP", expected, trades.to_pylist(), eligibility) == []
    for interval, of_width in bars_of_symbol(expected, eligibility, MIDNIGHT, NEXT_MIDNIGHT).items():
        made: pa.Table = minutes if interval is MINUTE else roll_up(minutes, interval, MIDNIGHT, NEXT_MIDNIGHT)
        assert bar_differences("BHP", of_width, made.to_pylist()) == []
        assert bar_invariants(made, PriceRange.ANY).passed
    assert roll_up_identity(roll_up(minutes, BAR_INTERVALS[-1], MIDNIGHT, NEXT_MIDNIGHT), trades).passed


@pytest.fixture
def sim() -> Feed:

    return load_feeds([SHIPPED_FEEDS])["sim"]


def test_a_day_keeps_which_prices_it_was_built_with(sim: Feed) -> None:
    any_price = sim.model_copy(update={"price": Price(may_be=PriceRange.ANY)})

    rules = BuildRules.of(any_price)
    assert rules.fingerprint != BuildRules.of(sim).fingerprint
    assert BuildRules.from_json(rules.to_json()).applied_to(sim).price.may_be is PriceRange.ANY
    assert BuildRules.of(sim).applied_to(any_price).price.may_be is PriceRange.POSITIVE
