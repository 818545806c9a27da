"""Lists the files of a backup with their hashes. It is written last: a backup without it is unfinished."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from k2_market.errors import K2Error

FILE_NAME = "backup.json"
"""Its name in the backup's directory."""

_VERSION = 1


class BackupError(K2Error):
    """A backup can't be made, read or restored; the message says why, and what was changed."""


@dataclass(frozen=True)
class BackupFile:
    """A file of a backup: its path within it, its size in bytes, and its SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BackupTable:
    """A table of a backup.

    Attributes:
        catalog: The name of the catalog that it is in, of those that a database may hold.
        namespace: Its namespace there.
        table: Its name there.
        location: Where it lay.
        directory: Where its files are in the backup's warehouse.
        metadata_location: The metadata file that the catalog names.
    """

    catalog: str
    namespace: str
    table: str
    location: str
    directory: str
    metadata_location: str


@dataclass(frozen=True)
class BackupManifest:
    """Describes what a backup holds.

    Attributes:
        taken: When it was begun, UTC.
        home: The home that it is of.
        parts: What of the home it holds: ``dagster``, ``tables``, ``kafka``, ``registry``, ``home``.
        left_out: What it does not hold though the home uses it, in words.
        tables: The catalog's tables.
        files: All its files but this list.
    """

    taken: datetime
    home: str
    parts: tuple[str, ...]
    left_out: tuple[str, ...]
    tables: tuple[BackupTable, ...]
    files: tuple[BackupFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(each.size for each in self.files)

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps({"version": _VERSION, **asdict(self), "taken": self.taken.isoformat()}, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str) -> "BackupManifest":
        """Read one.

        Args:
            text: The file's content.
            where: Its path, for messages.

        Raises:
            BackupError: It is none that this K2 can read.
        """
        try:
            content: Mapping[str, Any] = json.loads(text)
            version = content["version"]
            if version != _VERSION:
                raise BackupError(
                    f"{where}: found version {version!r}, expected {_VERSION}. It was made by another version of K2"
                )
            found = cls(
                taken=datetime.fromisoformat(content["taken"]),
                home=str(content["home"]),
                parts=tuple(content["parts"]),
                left_out=tuple(content["left_out"]),
                tables=tuple(BackupTable(**each) for each in content["tables"]),
                files=tuple(BackupFile(**each) for each in content["files"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BackupError(f"{where} is no list of a backup ({error!r}): was it damaged?") from error
        outside = [path for path in found._paths if not _lies_within(path)]
        if outside:
            raise BackupError(f"{where} names {outside[0]!r}, which is no path within a backup: was it damaged?")
        return found

    @property
    def _paths(self) -> list[str]:
        return [*(each.path for each in self.files), *(each.directory for each in self.tables)]


def _lies_within(path: object) -> bool:
    """Tell whether a path leads to something below the directory that it is taken in, whichever that is."""
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    return bool(parts) and parts[0] != "/" and ".." not in parts
