"""Bounds a writer's schema: to a few times what any market needs, and to less than does harm.

A schema is a program that a producer has K2 run on each of its messages. A few hundred characters of one can ask for
more memory than there is: types nested without end, types that refer to one another until they are millions, records
of a thousand fields that take no byte on the wire. Nothing here recurses, and nothing is taken to be what it should be.
"""

from collections.abc import Iterator
from typing import Any

MAX_CHARACTERS = 1_000_000
"""Of a schema, its documentation included. Confluent's registry can't store more either: a Kafka message."""

MAX_PARTS = 200_000
"""Numbers, texts, lists and objects of a schema's JSON."""

MAX_JSON_DEPTH = 256
"""Lists and objects within one another: a record's field is three deeper than the record."""

MAX_DEPTH = 64
"""Types within one another."""

MAX_TYPES = 10_000
"""Types in a schema, a named type counted wherever it is referred to."""

MAX_NAME_CHARACTERS = 256
"""Of a field's name or an enum's symbol."""

MAX_FIXED_TEXT = 65_536
"""Characters that a message's new fields may take as text however short the message is: their names above all."""

MAX_GROWTH = 100.0
"""Characters of text that a byte of an array or a map may become."""


def size_fault(schema: Any) -> str | None:
    """Say why a schema is too large to be used; None where it is not.

    Args:
        schema: As JSON reads; whatever it is.

    Returns:
        Text that reads on from the words "schema id 7".
    """
    characters = 0
    for count, (value, depth) in enumerate(_parts(schema), start=1):
        characters += len(value) if isinstance(value, str) else 1
        if depth > MAX_JSON_DEPTH:
            return f"is nested more than {MAX_JSON_DEPTH} levels deep"
        if count > MAX_PARTS:
            return f"has more than {MAX_PARTS:,} parts"
        if characters > MAX_CHARACTERS:
            return f"has more than {MAX_CHARACTERS:,} characters"
    return None


def _parts(schema: Any) -> Iterator[tuple[Any, int]]:
    """List all parts of a JSON value, objects' keys among them, each with the number of lists and objects around it."""
    left: list[tuple[Any, int]] = [(schema, 0)]
    while left:
        value, depth = left.pop()
        yield value, depth
        if isinstance(value, dict):
            left += ((each, depth + 1) for pair in value.items() for each in pair)
        elif isinstance(value, list | tuple):
            left += ((each, depth + 1) for each in value)
