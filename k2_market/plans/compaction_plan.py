"""Plans compaction: which small files of closed days become one.

Files are grouped next to next in the order in which they were committed, as many as fit. Every group but a day's last
is then more than half full, so a day that has been compacted is left alone until new files come to it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import groupby

TARGET_ROWS = 1_000_000
"""Most rows of a file that is written: 30 to 60 MB of trades, and some 300 MB in memory, where they are sorted."""

TARGET_BYTES = 256 * 1024**2
"""Most bytes, as they lie in Parquet, that go into one file: a bound for rows that are large, as dead letters are."""

MOST_ROWS_PER_COMMIT = 2 * TARGET_ROWS
"""Rows at which a commit takes no more groups: it is to be written in seconds, as another commit makes it void."""


@dataclass(frozen=True)
class FileFacts:
    """A data file, by the metadata: where it is, its trading day, rows, bytes, and the number of its commit."""

    path: str
    day: date
    rows: int
    bytes: int
    sequence: int

    @property
    def is_full(self) -> bool:
        """Say whether it is left as it is."""
        return 2 * self.rows >= TARGET_ROWS or 2 * self.bytes >= TARGET_BYTES


@dataclass(frozen=True)
class FileGroup:
    """Files of one day that are to become one."""

    day: date
    files: tuple[FileFacts, ...]

    @property
    def rows(self) -> int:
        """Their rows."""
        return sum(each.rows for each in self.files)

    @property
    def bytes(self) -> int:
        """Their bytes, as they lie in Parquet."""
        return sum(each.bytes for each in self.files)

    def has_room_for(self, file: FileFacts) -> bool:
        """Say whether the group stays within the target with one more file."""
        return self.rows + file.rows <= TARGET_ROWS and self.bytes + file.bytes <= TARGET_BYTES

    def and_file(self, file: FileFacts) -> "FileGroup":
        """Return the group with one more file."""
        return FileGroup(self.day, (*self.files, file))


@dataclass(frozen=True)
class CompactionPlan:
    """Names the groups of files that one commit replaces by a file each, and how many groups are left."""

    groups: tuple[FileGroup, ...] = ()
    groups_left: int = 0

    @property
    def days(self) -> tuple[date, ...]:
        """The days whose files are replaced."""
        return tuple(sorted({group.day for group in self.groups}))


def plan_compaction(files: Iterable[FileFacts], closed: frozenset[date]) -> CompactionPlan:
    """Return the files to put together next, those of the latest days first.

    Args:
        files: All data files of the table.
        closed: Trading days that have closed; files of others are left alone.
    """
    of_closed = sorted((each for each in files if each.day in closed and not each.is_full), key=_place)
    groups = [
        group
        for day, of_day in groupby(of_closed, key=lambda each: each.day)
        for group in _packed(day, of_day)
        if len(group.files) > 1
    ]
    groups.sort(key=lambda group: group.day, reverse=True)
    taken = _within_one_commit(groups)
    return CompactionPlan(tuple(groups[:taken]), len(groups) - taken)


def _place(file: FileFacts) -> tuple[date, int, str]:
    return file.day, file.sequence, file.path


def _packed(day: date, files: Iterable[FileFacts]) -> list[FileGroup]:
    groups = [FileGroup(day, ())]
    for file in files:
        if not groups[-1].has_room_for(file):
            groups.append(FileGroup(day, ()))
        groups[-1] = groups[-1].and_file(file)
    return groups


def _within_one_commit(groups: list[FileGroup]) -> int:
    rows = 0
    for number, group in enumerate(groups):
        rows += group.rows
        if rows > MOST_ROWS_PER_COMMIT:
            return max(1, number)
    return len(groups)
