"""Formats values as text, exactly and the same in every format.

Decimals have all their digits and never an exponent, timestamps are UTC as ``2014-03-10T23:00:00.000001Z``, intervals
``P0M0DT60S``, bytes hexadecimal, lists and maps JSON.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def texts(column: pa.Array) -> list[str | None]:
    """Return a column's values as texts; null stays None.

    Example:
        >>> import pyarrow as pa
        >>> texts(pa.array([Decimal("0.00000000"), None]))
        ['0.00000000', None]
    """
    return [None if value is None else _text(value) for value in _values(column)]


def json_values(column: pa.Array) -> list[Any]:
    """Return a column's values as JSON has them: whole numbers and floats as numbers, other decimals as strings."""
    return [_json_value(value) for value in _values(column)]


def _values(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    in_python = not (pa.types.is_timestamp(column.type) and column.type.unit == "ns")
    try:
        values: list[Any] = (column if in_python else column.cast(pa.string())).to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError):
        # Years past 9999; Python's moments have no nanoseconds either.
        values = column.cast(pa.string()).to_pylist()
    return values


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.hex()
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.replace(tzinfo=None).isoformat(timespec="microseconds") + ("Z" if value.tzinfo else "")
        case date():
            return value.isoformat()
        case list() | dict():
            return json.dumps(_json_value(value), ensure_ascii=False)
        case (months, days, nanoseconds):
            return f"P{months}M{days}DT{Decimal(nanoseconds).scaleb(-9).normalize():f}S"
    return str(value)


def _json_value(value: Any) -> Any:
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            # JSON has no NaN and no infinity: there a text stands in.
            return value if value - value == 0 else str(value)
        case Decimal() if value.as_tuple().exponent == 0:
            return int(value)
        case list():
            return [_json_value(each) for each in value]
        case dict():
            return {_text(key): _json_value(each) for key, each in value.items()}
    return _text(value)
