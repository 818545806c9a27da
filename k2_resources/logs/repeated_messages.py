"""Suppresses log messages that repeat again and again.

librdkafka reports a broker that is away every 50 ms; one line per distinct message and interval says as much.
"""

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_SECONDS = 10.0
_MAX_DISTINCT = 1_000
_USUAL = "Coordinator load in progress"
"""Message of every broker for a moment after its start; the client asks again by itself."""

# What differs between two reports of the same fact: client instance, how long ago, how often.
_VARYING = re.compile(
    r"rdkafka#\w+-\d+|\(after \d+ms in state \w+(?:, \d+ identical error\(s\) suppressed)?\)|\b\d+ms\b|0x[0-9a-f]+"
)


@dataclass
class _Seen:
    shown_at: float
    suppressed: int = 0


class RepeatedMessages(logging.Filter):
    """Lets a distinct message pass once per interval; the next one to pass says how many were held back.

    The count is the record's attribute ``suppressed``, absent when nothing was held back.
    """

    def __init__(
        self, interval_seconds: float = INTERVAL_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[int, str], _Seen] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is to be written."""
        if record.levelno == logging.WARNING and _USUAL in record.getMessage():
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        key = (record.levelno, _VARYING.sub("…", record.getMessage()))
        now = self._monotonic()
        seen = self._seen.get(key)
        if seen is not None and now - seen.shown_at < self._interval_seconds:
            seen.suppressed += 1
            return False
        if seen is not None and seen.suppressed:
            record.suppressed = seen.suppressed
        self._seen[key] = _Seen(shown_at=now)
        self._seen.move_to_end(key)
        if len(self._seen) > _MAX_DISTINCT:
            self._seen.popitem(last=False)
        return True
