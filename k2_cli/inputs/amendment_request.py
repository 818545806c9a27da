"""Reads from the command line which trade is to be amended, and prints the outcome."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from k2_cli.output.table_display import visible
from k2_market.loads.amending import AmendmentError, NamedTrade, StandingTrade
from k2_market.values.plain_texts import WHITE_SPACE

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


def decimal_of(option: str, text: str | None) -> Decimal | None:
    """Read a decimal number of an option.

    Raises:
        AmendmentError: It is none.
    """
    if text is None:
        return None
    if not _DECIMAL.fullmatch(text.strip()):
        raise AmendmentError(f"--{option}: found {text!r}; expected a decimal number such as 36.45")
    return Decimal(text.strip())


def named_trade(symbol: str, trade_id: str, day: date | None, exchange: str | None) -> NamedTrade:
    """Name a trade as raw rows do, without white space around."""
    texts = (symbol.strip(WHITE_SPACE), trade_id.strip(WHITE_SPACE))
    return NamedTrade(*texts, day, exchange and exchange.strip(WHITE_SPACE))


def sent_line(feed: str, named: NamedTrade, before: StandingTrade, after: Mapping[str, Any] | None) -> str:
    """Say what was sent about a trade, what it was before and what comes of it."""
    day, was = before.report["trade_date"], _values(before.values)
    what = "is cancelled; it was" if after is None else f"is {_values(after)} from now on; it was"
    return f"{feed}: {visible(str(named))}, {day}, {what} {was}. The day is built again by the sensors or k2 catch-up."


def _values(row: Mapping[str, Any]) -> str:
    return f"{_plain(row['price'])} x {_plain(row['quantity'])}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
