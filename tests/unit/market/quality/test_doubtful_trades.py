"""Trades that look wrong though nothing forbids them: what is flagged, and what must be left alone."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import OPEN, trade, trades_table

from k2_market.quality.doubtful_trades import BAND, price_band, price_jumps, repeated_content
from k2_market.quality.finding import Finding, Severity


def jumps(prices: list[float], **said: Any) -> Finding:
    rows = [
        trade(n, price=Decimal(f"{price:.4f}"), exchange_timestamp=OPEN + timedelta(seconds=n), **said)
        for n, price in enumerate(prices)
    ]
    return price_jumps(trades_table(rows))


def quiet(count: int, seed: int = 1) -> list[float]:
    """A market that moves by a cent or none each trade."""
    return list(100 + np.cumsum(np.random.default_rng(seed).choice([-0.01, 0, 0.01], count)))


@pytest.mark.parametrize("place", [0, 1, 30, 59, 60])
@pytest.mark.parametrize("factor", [10, 0.1, 1.03, 0.97])
def test_a_price_that_leaves_its_neighbours_and_comes_back_is_a_warning_that_shows_it(
    place: int, factor: float
) -> None:
    prices = quiet(61)
    prices[place] *= factor

    finding = jumps(prices)

    assert finding.severity is Severity.WARN
    if place != 30 and factor in (1.03, 0.97):  # near an end it could be the market that moves
        assert finding.passed
    else:
        assert (finding.numbers["jumps"], finding.examples[0]["trade_id"]) == (1, f"t{place}")


def test_two_wrong_prices_in_a_row_are_flagged() -> None:
    prices = quiet(60)
    prices[20:22] = [1000, 1001]

    assert {row["trade_id"] for row in jumps(prices).examples} >= {"t20", "t21"}


def test_a_market_that_moves_for_good_is_left_alone() -> None:
    before, after = quiet(40), [price * 1.2 for price in quiet(40, 2)]

    assert jumps(before + after).passed
    assert jumps(list(np.linspace(100, 200, 80))).passed


def test_a_bounce_between_bid_and_ask_is_left_alone() -> None:
    assert jumps([100.0, 100.9] * 40).passed
    assert jumps([0.0010, 0.0011] * 10).passed  # a tick apart, though a tenth of the price


def test_of_two_trades_alone_a_tenfold_price_is_flagged() -> None:
    assert jumps([91_000.5, 910_005]).numbers == {"price_eligible": 2, "jumps": 2}
    assert jumps([91_000.5, 91_010]).passed


def test_a_trade_that_sets_no_price_is_left_out() -> None:
    rows = [trade(n, price=Decimal(100)) for n in range(9)]
    rows.append(trade(9, price=Decimal(1000), price_eligible=False))

    assert price_jumps(trades_table(rows)).passed


def test_each_symbol_is_held_against_its_own_prices() -> None:
    rows = [trade(n, symbol=symbol, price=price) for n, (symbol, price) in enumerate([("A", 1), ("B", 900)] * 30)]

    assert price_jumps(trades_table(rows)).passed


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), max_size=120), st.randoms())
def test_prices_within_five_steps_of_one_another_are_never_flagged_whatever_their_rows_order(steps, random) -> None:
    rows = [trade(n, price=Decimal(1000 + step % 5), exchange_timestamp=OPEN) for n, step in enumerate(steps)]
    table = trades_table(rows)
    order = list(range(len(rows)))
    random.shuffle(order)

    assert price_jumps(table.take(np.array(order, np.int64))).passed


@pytest.mark.parametrize(("price", "passes"), [(100, True), (139, True), (141, False), (59, False), (1000, False)])
def test_a_symbol_far_from_its_close_before_is_a_warning(price: int, passes: bool) -> None:
    rows = [trade(n, price=Decimal(price)) for n in range(3)] + [trade(9, symbol="NEW", price=Decimal(7))]

    finding = price_band(trades_table(rows), {"BHP": Decimal(100), "GONE": Decimal(1)})

    assert (finding.passed, finding.numbers) == (passes, {"compared": 1, "outside": 0 if passes else 1})
    assert BAND == 0.4


def doubled(count: int, twice: int) -> list[dict[str, Any]]:
    """Trades of different times, some of them there under another id too."""
    rows = [trade(n, exchange_timestamp=OPEN + timedelta(seconds=n)) for n in range(count)]
    return rows + [{**row, "trade_id": f"again-{n}"} for n, row in enumerate(rows[:twice])]


@pytest.mark.parametrize(
    ("twice", "usual", "passes"),
    [
        (0, [], True),
        (30, [], True),
        (100, [], False),
        (3, [0.05, 0.06, 0.04], True),
        (30, [0.05, 0.06, 0.04], False),
        (9, [0.0, 0.0], True),
        (30, [0.5, 0.4, 0.45], True),
        (100, [0.5, 0.4, 0.45], False),
        (100, [0.9], True),
    ],
)
def test_more_trades_alike_than_the_feed_usually_has_are_a_warning(
    twice: int, usual: list[float], passes: bool
) -> None:
    finding = repeated_content(trades_table(doubled(100, twice)), usual)

    assert (finding.passed, finding.severity) == (passes, Severity.WARN)
    assert finding.numbers["repeated"] == 2 * twice
    assert bool(finding.examples) is not passes


def test_a_day_without_trades_passes() -> None:
    empty = trades_table([])

    assert all(each.passed for each in (price_jumps(empty), price_band(empty, {}), repeated_content(empty, [])))
