"""Plans the deletion of files that no table refers to, from listings that lie some time apart.

A file that nothing refers to may be of a commit that is under way, or of a snapshot that has just expired and is
still being read. So it is marked when it is first seen so, and deleted at a later look.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

CLEANINGS = "k2.cleanings"
"""The table property that counts how often files were deleted.

It is raised before they are, by a commit that is refused if anyone else committed since the look. So whoever is about
to commit files that were written earlier is refused, or sees the new count and writes them anew (#054): the cleaner and
a commit need no clock to agree.
"""


@dataclass(frozen=True)
class StoredFile:
    """A file under a table's location: its path within it, its size in bytes, when it was written."""

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Mark:
    """Describes when a file was first seen without anything that refers to it, and the table's snapshot then."""

    seen: datetime
    snapshot_id: int | None


Marks = Mapping[str, Mark]
"""Marks by path."""


@dataclass(frozen=True)
class FileListing:
    """A table's files, and what refers to them, at one moment.

    Attributes:
        now: The moment, by the clock that the files' times are of.
        files: All files under the table's location, listed before the rest was looked at.
        reachable: Paths of all files that the table refers to.
        snapshot_id: The table's snapshot.
    """

    now: datetime
    files: tuple[StoredFile, ...]
    reachable: frozenset[str]
    snapshot_id: int | None


@dataclass(frozen=True)
class SweepPlan:
    """Describes what is to be done with a table's files.

    Attributes:
        deletable: Files that nobody can need any more.
        resting: Files that nothing refers to, which a later look may delete.
        held: Those of them that rest because the table had no commit since they were marked.
        kept: Files that the table refers to.
        marks: What the next look is to know of the files that are resting.
    """

    deletable: tuple[StoredFile, ...]
    resting: tuple[StoredFile, ...]
    held: tuple[StoredFile, ...]
    kept: tuple[StoredFile, ...]
    marks: Marks


def plan_sweep(look: FileListing, marks: Marks, floor: timedelta) -> SweepPlan:
    """Tell what is to be done with a table's files.

    A file is deleted when it was written ``floor`` ago, was marked ``floor`` ago, and the table had a commit since
    it was marked. That commit made any other fail that had been under way, however long it has been stopped since.

    Args:
        look: The table now.
        marks: Of earlier looks.
        floor: Longer than any commit takes, and than any reader of an expired snapshot.
    """
    orphans = tuple(each for each in look.files if each.path not in look.reachable)
    marked = {each.path: _mark(each, marks.get(each.path), look) for each in orphans}
    rested = [
        each for each in orphans if each.modified <= look.now - floor and marked[each.path].seen <= look.now - floor
    ]
    deletable = tuple(each for each in rested if marked[each.path].snapshot_id != look.snapshot_id)
    gone = frozenset(deletable)
    resting = tuple(each for each in orphans if each not in gone)
    return SweepPlan(
        deletable=deletable,
        resting=resting,
        held=tuple(each for each in rested if each not in gone),
        kept=tuple(each for each in look.files if each.path in look.reachable),
        marks={each.path: marked[each.path] for each in resting},
    )


def _mark(file: StoredFile, earlier: Mark | None, look: FileListing) -> Mark:
    """Return a file's mark; a new one where the earlier is of a file before this one, or lies in the future."""
    if earlier is None or earlier.seen > look.now or file.modified > earlier.seen:
        return Mark(look.now, look.snapshot_id)
    return earlier


def bytes_of(files: Iterable[StoredFile]) -> int:
    """Return the size of some files together."""
    return sum(each.size for each in files)


_VERSION = 1


def marks_to_json(marks: Marks) -> str:
    """Marks as the text of a file."""
    written = {path: [each.seen.isoformat(), each.snapshot_id] for path, each in sorted(marks.items())}
    return json.dumps({"version": _VERSION, "marks": written}, separators=(",", ":"))


def marks_from_json(text: str) -> Marks:
    """Return the marks in a file's text; none where it was not written to its end, which only takes longer."""
    try:
        content = json.loads(text)
        if content["version"] != _VERSION:
            return {}
        return {
            str(path): Mark(datetime.fromisoformat(seen), None if snapshot_id is None else int(snapshot_id))
            for path, (seen, snapshot_id) in content["marks"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
