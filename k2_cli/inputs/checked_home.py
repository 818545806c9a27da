"""Checks the home before a command works on it, and stamps one that the command makes with its format."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

from k2_market.homes.home_format import HomeFormatError
from k2_resources.homes.home_format import changes_needed, format_of, is_made, require_usable, stamp
from k2_resources.settings import Settings, unknown_variables

_WORK_ON_OLDER_HOMES = frozenset({"backup", "down", "logs", "migrate"})


@contextmanager
def checked_home(command: str) -> Iterator[None]:
    """Refuse a home that the command can't work on; stamp it afterwards if it was made meanwhile.

    Variables ``K2_…`` that are no settings are named on stderr.

    Raises:
        HomeFormatError: The home is newer than this K2, or must be migrated first.
        SettingsError: A setting is wrong.
    """
    home = Settings.load().home
    for warning in unknown_variables(os.environ):
        typer.secho(f"k2: {warning}", err=True, fg=typer.colors.YELLOW)
    was_made = is_made(home)
    if was_made and command in _WORK_ON_OLDER_HOMES:
        changes_needed(home)
    elif was_made:
        require_usable(home)
    try:
        yield
    finally:
        # A home that can't be written has said so by now; without a stamp it counts as an older one with no changes.
        with suppress(HomeFormatError):
            if (not was_made or command == "up") and is_made(home) and format_of(home) is None:
                stamp(home)
