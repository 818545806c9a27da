"""Selects and formats lines of K2's log."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from k2_cli.output.table_display import visible
from k2_market.errors import K2Error
from k2_resources.logs.log_file import log_files

LEVELS = ("debug", "info", "warning", "error", "critical")
_ALIASES = {"warn": "warning", "fatal": "critical"}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_HEAD = ("timestamp", "level", "component", "message")


class LogFilterError(K2Error):
    """A filter of log lines can't be understood."""


@dataclass(frozen=True)
class LogLine:
    """A line of the log: its text, and what it holds; nothing where it is no JSON object."""

    text: str
    fields: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "LogLine":
        """Read a line."""
        try:
            fields = json.loads(text)
        except ValueError:
            fields = {}
        return cls(text, fields if isinstance(fields, dict) else {})

    @property
    def time(self) -> datetime | None:
        """Tell when it was written."""
        try:
            return datetime.fromisoformat(str(self.fields.get("timestamp", "")))
        except ValueError:
            return None

    @property
    def level(self) -> str:
        """Its level, in lower case."""
        return str(self.fields.get("level", "info")).lower()


@dataclass(frozen=True)
class LogFilter:
    """Says which lines are wanted; every part must hold."""

    since: datetime | None = None
    levels: frozenset[str] = frozenset(LEVELS)
    feed: str | None = None
    component: str | None = None
    contains: str | None = None

    @classmethod
    def parse(
        cls, since: str | None, level: str, feed: str | None, component: str | None, contains: str | None, now: datetime
    ) -> "LogFilter":
        """Understand what was asked for.

        Raises:
            LogFilterError: Time or level can't be understood.
        """
        named = _ALIASES.get(level.lower(), level.lower())
        if named not in LEVELS:
            raise LogFilterError(f"--level {level}: expected one of {', '.join(LEVELS)}")
        levels = frozenset(LEVELS[LEVELS.index(named) :])
        return cls(None if since is None else _moment(since, now), levels, feed, component, contains)

    def __contains__(self, line: LogLine) -> bool:
        """Tell whether a line is wanted."""
        if line.level not in self.levels and line.level in LEVELS:
            return False
        if self.since is not None and (line.time is None or line.time < self.since):
            return False
        if self.component is not None and line.fields.get("component") != self.component:
            return False
        if self.feed is not None and not _is_about(line, self.feed):
            return False
        return self.contains is None or self.contains in line.text


def matching_lines(path: Path, wanted: LogFilter, most: int) -> Iterable[LogLine]:
    """Read the log and the files it was rotated to, and give the last matching lines, oldest first.

    Args:
        path: The log.
        wanted: Which lines.
        most: How many at the most; 0 for all.
    """
    matching = (line for line in _lines(path) if line in wanted)
    return deque(matching, maxlen=most) if most else matching


def shown(line: LogLine) -> str:
    """Show a line to a person: time, level, component, message, then the other fields that it has."""
    if not line.fields:
        return visible(line.text)
    time, level, component, message = (str(line.fields.get(name, "")) for name in _HEAD)
    rest = {name: value for name, value in line.fields.items() if name not in _HEAD and value not in (None, "", [], {})}
    fields = "  ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in rest.items()
    )
    return visible(f"{time[:19].replace('T', ' ')}  {level.upper():<8}{component:<14}{message}  {fields}".rstrip())


def _lines(path: Path) -> Iterator[LogLine]:
    for each in log_files(path):
        with each.open(encoding="utf-8", errors="replace") as file:
            yield from (LogLine.parse(text.rstrip("\n")) for text in file)


def _is_about(line: LogLine, feed: str) -> bool:
    if line.fields.get("feed") == feed:
        return True
    subjects = (line.fields.get(name) for name in ("table", "subject", "topic", "job", "asset"))
    return any(isinstance(each, str) and each.split(".")[0].split("/")[0].split("_")[0] == feed for each in subjects)


def _moment(text: str, now: datetime) -> datetime:
    if text[:-1].isdecimal() and text[-1:] in _UNITS:
        return now - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise LogFilterError(f"--since {text}: expected 90s, 10m, 2h, 3d, or a time as 2026-11-30T14:00") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
