"""Explains an invalid feed file in plain words: the key, the value found, the value expected."""

from collections.abc import Sequence
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

EXPECTED = {
    "name": "lower-case letters, digits and _, a letter first, at most 32 characters",
    "exchange": "the exchange's name as messages have it, 1 to 32 characters",
    "mic": "an ISO 10383 code of four capital letters or digits, as XASX",
    "asset_class": "equities, crypto, futures or options",
    "timezone": "a time zone of the IANA database, as Australia/Sydney",
    "calendar": "24/7, 24/5 or a name of exchange_calendars, as XASX",
    "start_date": "a date, as 2026-01-02, without quotes or time",
    "currency": "what prices are in, 1 to 12 characters, as AUD",
    "owner": "a team, as team:market-data, or an e-mail address",
    "topics": "a table, as [topics] on a line of its own",
    "topics.trades": "a Kafka topic's name, as market.equities.trades.asx (letters, digits, dot, _ and -, at most 249)",
    "topics.quotes": "a Kafka topic's name, as market.equities.quotes.asx (letters, digits, dot, _ and -, at most 249)",
    "topics.partitions": "a whole number from 1 to 1000",
    "topics.retention_bytes": "a whole number of bytes, or -1 to keep all",
    "sequence": "a table, as [sequence] on a line of its own",
    "sequence.scope": "symbol, partition or none",
    "conditions": "a table, as [conditions] on a line of its own",
    "conditions.no_price": 'a list of condition codes, as ["1", "3"]',
    "conditions.no_volume": 'a list of condition codes, as ["1", "3"]',
    "price": "a table, as [price] on a line of its own",
    "price.may_be": "positive, or any where prices of zero and less are real",
    "ids": "a table, as [ids] on a line of its own",
    "ids.unique_within": "symbol, venue, feed or day",
    "session": "a table, as [session] on a line of its own",
    "session.minutes_before": "a whole number of minutes, 0 or more",
    "session.minutes_after": "a whole number of minutes, 0 or more",
    "silence": "a table, as [silence] on a line of its own",
    "silence.minutes": "a whole number of minutes, 0 where silence means nothing",
    "session.day_starts": 'hours and minutes at the exchange, as "17:00"',
}
"""Expectations of each key of a feed's file, in words; a test keeps it complete."""

_OWN_WORDS = "value_error"
"""The type of an error whose text a validator of ours wrote."""


def explain_problems(error: ValidationError) -> str:
    """Describe every problem of a feed's file in one line, ``;`` between them.

    Example:
        ``key asset_class: found 'equity'; expected equities, crypto, futures or options``
    """
    return "; ".join(_explained(problem) for problem in error.errors())


def _explained(problem: ErrorDetails) -> str:
    path = [str(part) for part in problem["loc"] if isinstance(part, str)]
    key = ".".join(path)
    if problem["type"] == _OWN_WORDS:
        words = str(problem.get("ctx", {}).get("error", problem["msg"]))
        return f"key {key}: {words}" if key else words
    if problem["type"] == "extra_forbidden":
        return f"key {key}: there is no such key; {_suggestion(path)}"
    expected = EXPECTED.get(key, problem["msg"])
    if problem["type"] == "missing":
        return f"key {key}: missing; expected {expected}"
    return f"key {key}: found {problem['input']!r}; expected {expected}"


def _suggestion(path: Sequence[str]) -> str:
    """Name the known key that an unknown one looks like, in its own table first, or else all keys of that table."""
    table = "".join(f"{part}." for part in path[:-1])
    siblings = [key for key in EXPECTED if key.startswith(table) and "." not in key[len(table) :]]
    near = get_close_matches(".".join(path), siblings, n=1) or get_close_matches(".".join(path), EXPECTED, n=1)
    elsewhere = [key for key in EXPECTED if key.rpartition(".")[2] == path[-1]]
    if elsewhere or near:
        return f"did you mean {(elsewhere or near)[0]}?"
    return f"those there are: {', '.join(siblings or EXPECTED)}"
