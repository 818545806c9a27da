"""Reads correlation ids out of messages' headers, whatever else the headers hold."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from confluent_kafka import Message

CORRELATION_HEADER = "correlation_id"
MAX_CHARACTERS = 256
"""Of a correlation id; the rest of a longer one is cut off."""

_Header = tuple[str, "str | bytes | None"]
_Headers = Iterable[_Header]


def correlation_ids(messages: Sequence[Message]) -> list[str | None]:
    """Read each message's correlation id: the first header of that name that has bytes, as text; None without one.

    A header is not the message: whatever is wrong with headers, the message is as good as any. Bytes that are not
    UTF-8, and control characters, are replaced. Where a header's *name* is not UTF-8, the client gives none of the
    message's headers.
    """
    found = headers_of(messages)
    if not any(found):
        return [None] * len(found)
    known = _Known()
    return [None if each is None else known[tuple(each)] for each in found]


class _Known(dict[tuple[_Header, ...], "str | None"]):
    """Remembers the correlation ids of headers, of which many messages have the same."""

    def __missing__(self, headers: tuple[_Header, ...]) -> str | None:
        """Find the correlation id of headers that were not met before."""
        found = self[headers] = _correlation_id(headers)
        return found


def headers_of(messages: Sequence[Message]) -> list[_Headers | None]:
    """Read each message's headers; None where it has none, or where the client can't give them.

    A message whose headers could not be given is not asked for them again: the client would hand out what it had
    half made by then, and reading that ends the process.

    Raises:
        MemoryError: There is not enough for a message's headers.
    """
    found: list[_Headers | None] = []
    rest = map(_headers, messages)
    while len(found) < len(messages):
        try:
            found.extend(rest)  # takes what comes before a failure, and ``rest`` goes on behind it
        except MemoryError:
            raise
        except Exception:  # of a name that is not UTF-8: SystemError or UnicodeDecodeError, as Python pleases
            found.append(None)
    return found


_headers = cast("Callable[[Message], _Headers | None]", Message.headers)


def _correlation_id(headers: _Headers) -> str | None:
    for name, value in headers:
        if name == CORRELATION_HEADER and isinstance(value, bytes):
            return _text(value[: 4 * MAX_CHARACTERS])
    return None


def _text(value: bytes) -> str:
    text = value.decode("utf-8", errors="replace")[:MAX_CHARACTERS]
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)
