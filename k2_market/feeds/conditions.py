"""Marks trades that may set prices, and those that count for volume, under a feed's conditions."""

from collections.abc import Iterable

import polars as pl

from k2_market.feeds.feed import Conditions, PriceRange


def price_eligible(profile: Conditions, may_be: PriceRange = PriceRange.POSITIVE) -> pl.Expr:
    """Say whether a trade may set open, high, low, close and vwap.

    Every condition must allow it, the price must be above zero, unless the feed's may be any, and the quantity not
    below. A quantity of zero
    does set a price: exchanges print such trades, and bars that leave them out differ from the exchange's own.

    Args:
        profile: The feed's conditions profile.
        may_be: Which prices the feed may have.

    Returns:
        A boolean expression over ``conditions``, ``price`` and ``quantity``.
    """
    return _all_allowed(profile.no_price) & _sound(may_be)


def volume_eligible(profile: Conditions, may_be: PriceRange = PriceRange.POSITIVE) -> pl.Expr:
    """Tell whether a trade counts for volume: every condition allows it, price and quantity as for ``price_eligible``.

    Args:
        profile: The feed's conditions profile.
        may_be: Which prices the feed may have.

    Returns:
        A boolean expression over ``conditions``, ``price`` and ``quantity``.
    """
    return _all_allowed(profile.no_volume) & _sound(may_be)


def _sound(may_be: PriceRange) -> pl.Expr:
    not_below = pl.col("quantity") >= 0
    return not_below if may_be is PriceRange.ANY else not_below & (pl.col("price") > 0)


def _all_allowed(excluded: Iterable[str]) -> pl.Expr:
    codes = sorted(excluded)
    if not codes:
        return pl.lit(True)
    return ~pl.col("conditions").list.eval(pl.element().is_in(codes)).list.any()
