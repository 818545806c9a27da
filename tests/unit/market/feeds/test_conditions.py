from decimal import Decimal

import polars as pl
import pytest

from k2_market.feeds.conditions import price_eligible, volume_eligible
from k2_market.feeds.feed import Conditions

PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))


def eligible(conditions: list[str], price: str = "10", quantity: str = "5") -> tuple[bool, bool]:
    trade = pl.DataFrame(
        {"conditions": [conditions], "price": [Decimal(price)], "quantity": [Decimal(quantity)]},
        schema={"conditions": pl.List(pl.String), "price": pl.Decimal(18, 8), "quantity": pl.Decimal(18, 8)},
    )
    return trade.select(price_eligible(PROFILE).alias("price"), volume_eligible(PROFILE).alias("volume")).row(0)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], (True, True)),
        (["ON"], (True, True)),
        (["XT"], (False, True)),
        (["AV"], (False, False)),
        (["ON", "XT"], (False, True)),
        (["XT", "AV"], (False, False)),
        (["xt", "X"], (True, True)),
    ],
)
def test_a_trade_is_eligible_only_if_all_its_conditions_allow(conditions, expected):
    assert eligible(conditions) == expected


@pytest.mark.parametrize("price", ["0", "-0.00000001"])
def test_a_price_not_above_zero_counts_for_nothing(price):
    assert eligible([], price=price) == (False, False)


def test_a_quantity_below_zero_counts_for_nothing():
    assert eligible([], quantity="-1") == (False, False)


def test_a_quantity_of_zero_sets_a_price():
    assert eligible([], quantity="0") == (True, True)


def test_without_a_profile_every_condition_is_allowed():
    trades = pl.DataFrame({"conditions": [["XT"], []], "price": [1, 0], "quantity": [1, 1]})

    assert trades.select(price_eligible(Conditions())).to_series().to_list() == [True, False]


def test_many_trades_are_judged_each_by_its_own_conditions():
    lists = [["XT"], [], ["ON", "AV"], ["ON"]]
    trades = pl.DataFrame({"conditions": lists, "price": [1] * 4, "quantity": [1] * 4})

    assert trades.select(price_eligible(PROFILE)).to_series().to_list() == [False, True, False, True]
