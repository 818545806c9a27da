"""Reads days from the command line: a date, ``today``, ``yesterday``, or ``-5d`` for five days ago."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import typer

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AGO = re.compile(r"-([0-9]{1,5})d")
_NAMED = {"today": 0, "yesterday": 1}


@dataclass(frozen=True)
class AskedDay:
    """A day as it was typed.

    Attributes:
        on: The date; None where days ago are meant.
        days_ago: How many days before today.
    """

    on: date | None
    days_ago: int = 0

    def date(self, zone: tzinfo, now: datetime | None = None) -> date:
        """Give the date.

        Args:
            zone: The exchange's time zone, by which it is today.
            now: The moment, if not this one.
        """
        if self.on is not None:
            return self.on
        return (now or datetime.now(UTC)).astimezone(zone).date() - timedelta(days=self.days_ago)


def parse_day(text: str) -> AskedDay:
    """Read a day.

    Raises:
        typer.BadParameter: It is none; says what was found and what is expected.
    """
    text = text.strip().lower()
    if text in _NAMED:
        return AskedDay(None, _NAMED[text])
    if ago := _AGO.fullmatch(text):
        return AskedDay(None, int(ago[1]))
    try:
        if _DATE.fullmatch(text):
            return AskedDay(date.fromisoformat(text))
    except ValueError as error:
        raise typer.BadParameter(f"found {text!r}: {error}.") from error
    raise typer.BadParameter(f"found {text!r}; expected a day as 2026-11-24, today, yesterday, or -5d for 5 days ago.")


def day_option(name: str, help: str) -> Any:
    """Declare an option that takes a day."""
    return typer.Option(name, parser=parse_day, metavar="DAY", help=help)
