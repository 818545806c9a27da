"""Reads, writes and migrates the format of a home (#063).

A home is stamped with the format of the K2 that makes it. One without a stamp was made before there were formats, or
by a command that was killed at once: its format is 0, and it needs a migration only if there is something to change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from k2_market.homes.home_format import FORMAT, HomeFormat, HomeFormatError, require_known

FILE_NAME = "home.json"
"""Its name in the home."""

_DOWNLOADS = "java"


@dataclass(frozen=True)
class Change:
    """A change that a migration makes to a file of a home.

    Attributes:
        path: The file, within the home.
        what: What changes in it, for people.
        content: The file's new text.
    """

    path: str
    what: str
    content: str


def installed_version() -> str:
    """Give the version of the K2 that is installed; ``unknown`` where it runs from a checkout without being so."""
    try:
        return version("k2-market-data")
    except PackageNotFoundError:
        return "unknown"


def is_made(home: Path) -> bool:
    """Say whether a directory holds anything of a home but downloads.

    Raises:
        HomeFormatError: It can't be read.
    """
    try:
        return home.is_dir() and any(each.name != _DOWNLOADS for each in home.iterdir())
    except OSError as error:
        raise HomeFormatError(f"{home}: can't be read: {error}. Set K2_HOME to a directory of yours") from error


def format_of(home: Path) -> HomeFormat | None:
    """Read a home's format; None where it has no stamp.

    Raises:
        HomeFormatError: The stamp can't be read.
    """
    path = home / FILE_NAME
    try:
        return HomeFormat.from_json(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HomeFormatError(f"{path}: can't be read: {error}") from error


def stamp(home: Path) -> None:
    """Write this K2's format into a home.

    Raises:
        HomeFormatError: It can't be written.
    """
    _write(home / FILE_NAME, HomeFormat(FORMAT, installed_version()).to_json())


def changes_needed(home: Path) -> tuple[Change, ...]:
    """List what a migration of a home to this K2's format changes.

    Raises:
        HomeFormatError: The home is newer than this K2, or its stamp or a file can't be read.
    """
    found = format_of(home)
    if found is not None:
        require_known(found, str(home), installed_version())
    number = 0 if found is None else found.format
    return tuple(change for step in STEPS[number:] for change in step(home))


def require_usable(home: Path) -> None:
    """Refuse a home that this K2 can't work on as it is.

    Raises:
        HomeFormatError: It is newer than this K2, or must be migrated first.
    """
    changes = changes_needed(home)
    if changes:
        raise HomeFormatError(
            f"{home} was made by an older K2: {', '.join(each.path for each in changes)} must be changed for K2 "
            f"{installed_version()}. `k2 down`, then `k2 migrate`: it says what it changes (docs/upgrading.md)"
        )


def migrate(home: Path, changes: Sequence[Change]) -> None:
    """Carry out the changes of a migration, then stamp the home; interrupted, it can be run again.

    Raises:
        HomeFormatError: A file can't be written.
    """
    for change in changes:
        _write(home / change.path, change.content)
    stamp(home)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise HomeFormatError(f"{path}: can't be written: {error}") from error


def _event_storage_moved(home: Path) -> Iterator[Change]:
    """Rename the module of the event storage in Dagster's settings: it moved into a package."""
    path = "dagster/dagster.yaml"
    before, after = "module: k2_resources.kept_event_storage", "module: k2_resources.dagster.kept_event_storage"
    try:
        text = (home / path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError) as error:
        raise HomeFormatError(f"{home / path}: can't be read: {error}") from error
    if before in text:
        yield Change(path, f"event_log_storage: {after}, which was {before}", text.replace(before, after))


STEPS: tuple[Callable[[Path], Iterator[Change]], ...] = (_event_storage_moved,)
"""Migrations from each format to the next: the first from 0 to 1."""
