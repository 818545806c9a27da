"""Hands the closed dates of feeds from the code server, which looks calendars up, to the processes of its runs.

A run's process starts often, and to look a calendar up takes it half a second. It reads what the server has written
into the home, and looks calendars up itself only where a feed is not there or was declared otherwise then.
"""

import json
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from k2_assets.records.partitions import Closures
from k2_market.feeds.feed import DeclaredFeeds, Feed
from k2_market.feeds.trading_calendar import with_calendars
from k2_resources.files.private_directories import make_private
from k2_resources.settings import Settings

Usable = tuple[DeclaredFeeds, dict[str, Closures]]
"""Feeds whose calendars can be had, and their closed dates by name."""


def looked_up(settings: Settings, declared: DeclaredFeeds) -> Usable:
    """Look up the calendars of feeds, and write down for runs what was found."""
    usable = with_calendars(declared)
    found = {name: Closures.of(feed) for name, feed in usable.items()}
    content = {name: {"of": _calendar(feed), **_as_json(found.get(name))} for name, feed in declared.items()}
    path = _path(settings)
    with suppress(OSError):  # a home that can't be written makes runs start more slowly
        make_private(path.parent)
        written = path.with_suffix(".new")
        written.write_text(json.dumps(content), encoding="utf-8")
        written.replace(path)
    return usable, found


def written_down(settings: Settings, declared: DeclaredFeeds) -> Usable:
    """Read what a code server wrote down of feeds; where that is not of these very feeds, look their calendars up."""
    try:
        content = json.loads(_path(settings).read_text(encoding="utf-8"))
        known = {name: _closures(content[name], feed) for name, feed in declared.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return looked_up(settings, declared)
    refused = {name: "its calendar could not be had" for name, closures in known.items() if closures is None}
    return declared.without(refused), {name: each for name, each in known.items() if each is not None}


def _path(settings: Settings) -> Path:
    return settings.home / "run" / "closed_dates.json"


def _calendar(feed: Feed) -> list[str]:
    return [feed.calendar, feed.start_date.isoformat(), feed.timezone, str(feed.session.day_starts)]


def _as_json(closures: Closures | None) -> dict[str, Any]:
    if closures is None:
        return {"refused": True}
    return {"weekdays": closures.weekdays, "dates": [day.isoformat() for day in closures.dates]}


def _closures(entry: dict[str, Any], feed: Feed) -> Closures | None:
    """Read a feed's entry; None of a refused one.

    Raises:
        ValueError: It is of another calendar.
    """
    if entry["of"] != _calendar(feed):
        raise ValueError(f"{feed.name} had another calendar")
    if entry.get("refused"):
        return None
    return Closures(tuple(map(int, entry["weekdays"])), tuple(map(date.fromisoformat, entry["dates"])))
