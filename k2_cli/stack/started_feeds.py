"""Records the feed files that the running stack was started with, and compares them with those on disk.

Dagster's code server reads feed files once. What changes later is noticed by commands and sensors, and known to the
stack when `k2 up` has restarted what read them.
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from k2_resources.files.feed_files import Contents, changes_between, contents_of
from k2_resources.files.private_directories import make_private

READERS = ("code-server", "webserver", "daemon", "exporter")
"""The services that have to be restarted to know feed files that changed, in the order in which they start."""


def note_started_feeds(home: Path, directories: Iterable[Path]) -> None:
    """Write down the feed files as they are, when the code server starts."""
    path = _path(home)
    make_private(path.parent)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(contents_of(directories)), encoding="utf-8")
    unfinished.replace(path)


def forget_started_feeds(home: Path) -> None:
    """Note that no code server runs any more."""
    _path(home).unlink(missing_ok=True)


def changes_since_start(home: Path, directories: Iterable[Path]) -> tuple[str, ...]:
    """Name the feed files that were added, changed or removed since the code server was started; none if it never was.

    Example: ``("us.toml was added",)``
    """
    started = _started_feeds(home)
    return () if started is None else changes_between(started, contents_of(directories))


def _started_feeds(home: Path) -> Contents | None:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_path(home).read_text(encoding="utf-8"))
        return {str(path): str(content) for path, content in found.items()}
    return None


def _path(home: Path) -> Path:
    return home / "run" / "feeds.json"
