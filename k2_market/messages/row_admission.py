"""Refuses decoded rows that are not plausible trades, such as a time in 1970, before they enter the raw table.

A row that breaks one of these rules would harm whatever comes after it, however well it decoded: a day that does not
exist, a timestamp that no library can show, a symbol that is not one. It becomes a dead letter. What is merely
doubtful (a price of zero, a trade outside the session) is let in; checks find it later.

- ``symbol`` is one (``symbols``); the other identifiers and each condition have at most 256 characters; each condition
  may be a code (``plain_texts``).
- ``exchange_timestamp`` and ``received_timestamp`` lie after 1970-01-01 and before 2262, where nanoseconds end.
- ``trade_date`` lies in the feed's window, and within 13 days of ``exchange_timestamp``: a session that starts the
  evening before a long holiday is that far from its trading day, milliseconds written as microseconds are not.
- Prices and quantities have at most 18 digits, 8 of them places (``row_resolution`` sees to that).
- A new trade's ``trade_id`` is not the name that K2 gives to a trade without one (``PLACE_NAME``), of a place at or
  behind its own: as the first of that name it would be taken for the trade that stands there, and that one would be
  left out. The name of an earlier place can only have been taken from K2, by whoever sends a trade again.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.trading_calendar import LONGEST_CLOSURE
from k2_market.messages.row_resolution import Faults, int64_values, note_faults
from k2_market.values.plain_texts import code_faults
from k2_market.values.symbols import ASCII_SYMBOL_PATTERN, MAX_SYMBOL_CHARACTERS, symbol_fault
from k2_market.values.time_units import LARGEST_US, SMALLEST_US, other_unit

MAX_TEXT_CHARACTERS = 256
MAX_DAYS_APART = LONGEST_CLOSURE.days + 1
"""The longest closure, and a day since the date at the exchange may be the one after the date in UTC."""

OUTSIDE_WINDOW = "trade_date "
"""Beginning of the reason of a row whose trading day can't be right; ``awaited_day`` reads the rest."""

PLACE_NAME = "kafka"
"""Prefix of the ids of trades without one: ``kafka:<topic id>:<partition>:<offset>`` (``trades.cleaning``)."""

_PLACE = re.compile(r"(\d{1,10}):(\d{1,19})", re.ASCII)
_EPOCH = date(1970, 1, 1)
_END_OF_TIME_US = int(datetime(2262, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_DAY_US = 86_400_000_000
_BOUNDED_TEXTS = ("message_id", "trade_id", "exchange", "currency", "corrects_trade_id")
_TIMESTAMPS = ("exchange_timestamp", "received_timestamp")


def refusals(columns: Mapping[str, pa.Array], days: DayWindow) -> Faults:
    """Return the rows that may not enter the raw table, each with the first rule that it breaks.

    Args:
        columns: As ``row_resolution.resolve`` gives them. Rows that it found a fault in must be left out of account
            by the caller: their values mean nothing, and neither do refusals of them.
        days: The trading days that the feed's tables may hold.
    """
    faults: Faults = {}
    _refuse_symbols(columns["symbol"], faults)
    for name in _TIMESTAMPS:
        _refuse_timestamps(name, columns[name], faults)
    _refuse_days(columns["trade_date"], columns["exchange_timestamp"], days, faults)
    for name in _BOUNDED_TEXTS:
        if name in columns:
            _refuse_long_texts(name, columns[name], faults)
    if "conditions" in columns:
        _refuse_long_conditions(columns["conditions"], faults)
        _refuse_no_codes(columns["conditions"], faults)
    return faults


def claimed_names(columns: Mapping[str, pa.Array], topic_id: str, place_of: Callable[[int], tuple[int, int]]) -> Faults:
    """Find the new trades that bear the name of a place at or behind their own.

    Args:
        columns: As for ``refusals``; those of quotes have no trade ids.
        topic_id: The messages' topic.
        place_of: Gives a row's partition and offset.
    """
    ids = columns.get("trade_id")
    prefix = f"{PLACE_NAME}:{topic_id}:"
    if ids is None or not pc.any(pc.starts_with(ids, prefix)).as_py():
        return {}
    faults: Faults = {}
    for row in np.flatnonzero(pc.starts_with(ids, prefix).fill_null(False).to_numpy(zero_copy_only=False)).tolist():
        named = _PLACE.fullmatch(ids[row].as_py()[len(prefix) :])
        if named and (int(named[1]), int(named[2])) >= place_of(row) and columns["action"][row].as_py() == "NEW":
            faults[row] = f"trade_id {ids[row].as_py()} is K2's own name for a trade without an id"
    return faults


def _refuse_symbols(symbols: pa.Array, faults: Faults) -> None:
    encoded = symbols.dictionary_encode()
    usual = pc.and_(
        pc.match_substring_regex(encoded.dictionary, ASCII_SYMBOL_PATTERN),
        pc.and_(
            pc.less_equal(pc.binary_length(encoded.dictionary), MAX_SYMBOL_CHARACTERS),
            pc.invert(pc.match_substring(encoded.dictionary, "..")),
        ),
    ).to_numpy(zero_copy_only=False)
    if usual.all():
        return
    reasons = [
        None if is_usual else symbol_fault(symbol)
        for symbol, is_usual in zip(encoded.dictionary.to_pylist(), usual, strict=True)
    ]
    codes = encoded.indices.fill_null(0).to_numpy()
    refused = np.array([reason is not None for reason in reasons])[codes]
    note_faults(faults, refused, lambda row: str(reasons[codes[row]]), symbols)


def _refuse_timestamps(name: str, instants: pa.Array, faults: Faults) -> None:
    values = int64_values(instants)
    refused = (values <= 0) | (values >= _END_OF_TIME_US)
    small = (values > 0) & (values < SMALLEST_US)
    if small.any() or (values >= LARGEST_US).any():
        units = {int(value): other_unit(int(value)) for value in np.unique(values[small | (values >= LARGEST_US)])}
        in_other_unit = np.array([units.get(int(value)) is not None for value in values])
        note_faults(
            faults,
            in_other_unit,
            lambda row: f"{name} {values[row]} looks like {units[int(values[row])]}, expected microseconds",
            instants,
        )
    note_faults(faults, refused, lambda row: f"{name} {values[row]} outside 1970..2262", instants)


def _refuse_days(days: pa.Array, instants: pa.Array, window: DayWindow, faults: Faults) -> None:
    found = int64_values(days)
    outside = (found < (window.first - _EPOCH).days) | (found > (window.last - _EPOCH).days)
    note_faults(faults, outside, lambda row: f"{OUTSIDE_WINDOW}{_day_text(int(found[row]))} outside {window}", days)
    apart = found - int64_values(instants) // _DAY_US
    far = ~outside & (np.abs(apart) > MAX_DAYS_APART)
    note_faults(faults, far, lambda row: f"trade_date is {_apart_text(int(apart[row]))} exchange_timestamp", days)


def awaited_day(reason: str) -> date | None:
    """Give the trading day that a dead letter was too early for; None where it was refused for another reason.

    Example:
        >>> awaited_day("trade_date 2026-12-01 outside 2026-01-02..2026-11-30")
        datetime.date(2026, 12, 1)
    """
    found = _TOO_EARLY_OR_LATE.fullmatch(reason)
    if found is None:
        return None
    day, last = (date.fromisoformat(text) for text in found.groups())
    return day if day > last else None


_TOO_EARLY_OR_LATE = re.compile(
    rf"{OUTSIDE_WINDOW}(\d{{4}}-\d\d-\d\d) outside \d{{4}}-\d\d-\d\d\.\.(\d{{4}}-\d\d-\d\d)"
)


def _apart_text(days: int) -> str:
    return f"{abs(days)} days {'after' if days > 0 else 'before'}"


def _day_text(days: int) -> str:
    try:
        return str(_EPOCH + timedelta(days=days))
    except OverflowError:
        return f"day {days}"


def _refuse_long_texts(name: str, texts: pa.Array, faults: Faults) -> None:
    if _longest_bytes(texts) <= MAX_TEXT_CHARACTERS:
        return
    lengths = pc.utf8_length(texts).fill_null(0).to_numpy()
    refused = lengths > MAX_TEXT_CHARACTERS
    note_faults(faults, refused, lambda row: f"{name} of {lengths[row]} characters, at most {MAX_TEXT_CHARACTERS}")


def _refuse_long_conditions(conditions: pa.Array, faults: Faults) -> None:
    texts = conditions.flatten()
    if not len(texts) or _longest_bytes(texts) <= MAX_TEXT_CHARACTERS:
        return
    lengths = pc.utf8_length(texts).to_numpy()
    rows = pc.list_parent_indices(conditions).to_numpy()
    longest = np.zeros(len(conditions), np.int64)
    np.maximum.at(longest, rows, lengths)
    refused = longest > MAX_TEXT_CHARACTERS
    note_faults(faults, refused, lambda row: f"a condition of {longest[row]} characters, at most {MAX_TEXT_CHARACTERS}")


def _refuse_no_codes(conditions: pa.Array, faults: Faults) -> None:
    reasons = code_faults(conditions)
    if not reasons:
        return
    first = [next((reasons[item] for item in items or () if item in reasons), None) for items in conditions.to_pylist()]
    note_faults(faults, np.array([reason is not None for reason in first]), lambda row: str(first[row]))


def _longest_bytes(texts: pa.Array) -> int:
    return pc.max(pc.binary_length(texts)).as_py() or 0
