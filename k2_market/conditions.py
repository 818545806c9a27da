"""Eligibility: which trades may set prices and which may count for volume, under a feed's conditions profile."""

from collections.abc import Iterable

import polars as pl

from k2_market.feed import Conditions


def price_eligible(profile: Conditions) -> pl.Expr:
    """Whether a trade may set open, high, low, close and vwap.

    Every condition must allow it, the price must be above zero and the quantity not below. A quantity of zero
    does set a price: exchanges print such trades, and bars that leave them out differ from the exchange's own.

    Args:
        profile: The feed's conditions profile.

    Returns:
        A boolean expression over ``conditions``, ``price`` and ``quantity``.
    """
    return _all_allowed(profile.no_price) & (pl.col("price") > 0) & (pl.col("quantity") >= 0)


def volume_eligible(profile: Conditions) -> pl.Expr:
    """Whether a trade may count for volume: every condition allows it, price above zero, quantity not below zero.

    Args:
        profile: The feed's conditions profile.

    Returns:
        A boolean expression over ``conditions``, ``price`` and ``quantity``.
    """
    return _all_allowed(profile.no_volume) & (pl.col("price") > 0) & (pl.col("quantity") >= 0)


def _all_allowed(excluded: Iterable[str]) -> pl.Expr:
    codes = sorted(excluded)
    if not codes:
        return pl.lit(True)
    return ~pl.col("conditions").list.eval(pl.element().is_in(codes)).list.any()
