"""Loads the feeds that a command works on: the one that is named, which must be valid, or all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from k2_market.feeds.feed import DeclaredFeeds, Feed, RefusedFile
    from k2_resources.settings import Settings


def usable_feed(settings: "Settings", name: str) -> "Feed":
    """Give the feed of a name, whose session calendar is there.

    Raises:
        FeedFileError: Its file was refused, or its session calendar can't be had; names file, key and reason.
        UnknownFeedError: No file declares it.
    """
    from k2_market.errors import FeedFileError
    from k2_market.feeds.feed import feed_named, load_feeds
    from k2_market.feeds.trading_calendar import calendar_fault

    declared = load_feeds(settings.feed_directories)
    feed = feed_named(declared, name)
    fault = calendar_fault(feed)
    if fault is not None:
        raise FeedFileError(f"{declared.sources[name]}: {fault}")
    return feed


def usable_feeds(settings: "Settings") -> "DeclaredFeeds":
    """Give all feeds whose files and session calendars are well, and tell on stderr of the others."""
    from k2_market.feeds.feed import load_feeds
    from k2_market.feeds.trading_calendar import with_calendars

    declared = with_calendars(load_feeds(settings.feed_directories))
    warn_of_refused(declared.refused)
    return declared


def warn_of_changed(settings: "Settings") -> None:
    """Say on stderr which feed files the running stack does not know yet, a line each."""
    from k2_cli.stack.started_feeds import changes_since_start

    for change in changes_since_start(settings.home, settings.feed_directories):
        text = f"feed file {change} since the stack was started; `k2 up` restarts what has to know"
        typer.secho(text, err=True, fg=typer.colors.YELLOW)


def warn_of_refused(refused: Sequence["RefusedFile"]) -> None:
    """Say on stderr which feed files were refused and why, a line each."""
    for file in refused:
        typer.secho(f"feed file refused, the other feeds go on: {file}", err=True, fg=typer.colors.YELLOW)
