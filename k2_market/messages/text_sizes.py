"""Bounds the text of Avro values by the bytes that the values take; the bounds hold of a whole type.

Fields that K2 does not know are kept as text. A type whose values take few bytes and much text (records of a hundred
empty fields, say, in an array) would make gigabytes of a message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextSize:
    """Bounds on the JSON text of a type's values; of a value that takes ``b`` bytes.

    Attributes:
        least_bytes: ``b`` is no less.
        fixed: The text has at most ``fixed + growth * b`` characters.
        growth: As above.
        ratio: Where values take any bytes, the text has at most ``ratio * b`` characters.
    """

    least_bytes: int
    fixed: float
    growth: float
    ratio: float


NULL = TextSize(0, 4, 0.0, 0.0)
BOOLEAN = TextSize(1, 5, 0.0, 5.0)
LONG = TextSize(1, 2, 2.2, 3.0)
FLOAT = TextSize(4, 25, 0.0, 6.25)
DOUBLE = TextSize(8, 25, 0.0, 3.125)
BYTES = TextSize(1, 2, 2.0, 2.0)
TEXT = TextSize(1, 2, 6.0, 6.0)
"""A control character, which takes a byte, is six characters of JSON."""
DECIMAL = TextSize(1, 43, 2.0, 43.0)
"""A sign, 38 digits, a point, a zero before it, and quotation marks; or hexadecimal."""


def of_fixed(size: int) -> TextSize:
    """Bound a fixed of some bytes."""
    return TextSize(size, 2, 2.0, 4.0 if size else 0.0)


def of_enum(symbols: Sequence[str]) -> TextSize:
    """Bound an enum, whose values are shown as their symbols or as their numbers."""
    longest = 2 + max((6 * len(each) for each in symbols), default=0)
    return TextSize(1, longest, 2.2, longest + 2.2)


def of_record(fields: Mapping[str, TextSize]) -> TextSize:
    """Bound a record, by its fields' names."""
    names = 2 + sum(6 * len(name) + 4 for name in fields)
    empty = sum(each.fixed for each in fields.values() if not each.least_bytes)
    least_bytes = sum(each.least_bytes for each in fields.values())
    widest = max((each.ratio for each in fields.values()), default=0.0)
    return TextSize(
        least_bytes=least_bytes,
        fixed=names + sum(each.fixed for each in fields.values()),
        growth=max((each.growth for each in fields.values()), default=0.0),
        ratio=widest + (names + empty) / least_bytes if least_bytes else 0.0,
    )


def of_union(branches: Sequence[TextSize]) -> TextSize:
    """Bound a union, of which a byte or more tells the branch."""
    return TextSize(
        least_bytes=1 + min((each.least_bytes for each in branches), default=0),
        fixed=max((each.fixed for each in branches), default=0.0),
        growth=max((each.growth for each in branches), default=0.0),
        ratio=max((each.ratio if each.least_bytes else each.fixed for each in branches), default=0.0),
    )


def of_array(items: TextSize) -> TextSize:
    """Bound an array of values that take at least a byte each."""
    growth = items.ratio + 1 / items.least_bytes
    return TextSize(1, 2, growth, max(2.0, growth))


def of_map(values: TextSize) -> TextSize:
    """Bound a map, whose keys take a byte each at least."""
    growth = max(6.0, values.ratio) + (4 + (0 if values.least_bytes else values.fixed)) / (1 + values.least_bytes)
    return TextSize(1, 2, growth, max(2.0, growth))
