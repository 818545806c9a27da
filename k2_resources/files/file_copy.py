"""Copies files into a self-contained directory, and lists them with their hashes.

Nothing is linked: what happens to a file afterwards, in place or otherwise, does not happen to its copy. Where the file
system can share blocks until one side is written (XFS, btrfs), it does so by itself or when asked, which costs no room.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from k2_market.homes.backup_manifest import BackupError, BackupFile
from k2_resources.files.private_directories import make_private

_CHUNK = 1 << 20
_FICLONE = 0x40049409
"""The Linux request that has one file share another one's blocks until one of them is written."""

_BUSY_SECONDS = 30.0
_SQLITE = b"SQLite format 3\x00"


@dataclass
class CopiedFiles:
    """A directory that files are copied into.

    Attributes:
        directory: The directory.
        files: What is in it, by path within it.
    """

    directory: Path
    files: dict[str, BackupFile] = field(default_factory=dict)

    def copy(self, source: Path, path: str) -> None:
        """Copy a file as far as it goes at this moment, in place of an earlier copy.

        Args:
            source: The file; it may be written to at its end meanwhile.
            path: Where it goes, within the directory.

        Raises:
            FileNotFoundError: It is not there, or not any more.
            BackupError: There is no room, or the copy can't be written.
        """
        with source.open("rb") as stream, self._written(path) as target:
            digest, size = _copy(stream, target)
        self.files[path] = BackupFile(path, size, digest)

    def copy_database(self, source: Path, path: str) -> None:
        """Copy a SQLite database as it is at one moment, while others write to it.

        Raises:
            FileNotFoundError: It is not there, or not any more.
            BackupError: It is damaged, or stays locked; or there is no room.
        """
        target = self._target(path)
        with _errors_explained(target):
            target.unlink(missing_ok=True)
            copy_database(source, target)
        self.add(path)

    def write(self, path: str, content: bytes) -> None:
        """Write a file of one's own; raises ``BackupError`` as ``copy``."""
        with self._written(path) as target:
            target.write(content)
        self.add(path)

    def add(self, path: str) -> None:
        """Account for a file that was put there otherwise."""
        with (self.directory / path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self.files[path] = BackupFile(path, (self.directory / path).stat().st_size, digest)

    def remove(self, path: str) -> None:
        """Take a copy away again."""
        self.files.pop(path, None)
        (self.directory / path).unlink(missing_ok=True)

    def holds(self, path: str, size: int) -> bool:
        """Say whether a file of that size was copied there."""
        known = self.files.get(path)
        return known is not None and known.size == size

    @contextmanager
    def _written(self, path: str) -> Iterator[BinaryIO]:
        target = self._target(path)
        with _errors_explained(target), target.open("wb") as stream:
            yield stream

    def _target(self, path: str) -> Path:
        target = self.directory / path
        with _errors_explained(target):
            make_private(target.parent)
        return target


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database as it is at one moment into a new file, and see that the copy is sound.

    Raises:
        FileNotFoundError: It is not there.
        BackupError: It is damaged, or stays locked.
    """
    if not source.exists():
        raise FileNotFoundError(source)
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True, timeout=_BUSY_SECONDS)) as original,
            closing(sqlite3.connect(f"file:{quote(str(target))}", uri=True)) as copy,
        ):
            original.backup(copy)
            (said,) = copy.execute("PRAGMA quick_check").fetchone()
            if said != "ok":
                raise BackupError(f"{source} is damaged: {said}")
    except sqlite3.Error as error:
        if not source.exists():
            raise FileNotFoundError(source) from error
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise BackupError(f"{source} can't be copied: {error}. Does another process hold its lock?") from error


def is_database(file: Path) -> bool:
    """Say whether a file is a SQLite database, by its first bytes."""
    with file.open("rb") as stream:
        return stream.read(len(_SQLITE)) == _SQLITE


def copy_verified(file: BackupFile, source: Path, target: Path) -> None:
    """Copy a backup's file to where it is restored, and see that it is what was backed up.

    Raises:
        BackupError: It is not there, or not as it was; or there is no room.
    """
    with _errors_explained(target):
        make_private(target.parent)
        try:
            with source.open("rb") as stream, target.open("xb") as written:
                digest, size = _copy(stream, written)
        except FileNotFoundError as missing:
            raise BackupError(f"{source} is not there: the backup is not whole") from missing
    if (digest, size) != (file.sha256, file.size):
        raise BackupError(
            f"{source}: found {size:,} bytes with SHA-256 {digest}, expected {file.size:,} bytes with {file.sha256}: "
            "the backup was damaged"
        )


def _copy(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copy an open file; the SHA-256 of what was copied, and its size."""
    digest, size = hashlib.sha256(), 0
    cloned = _is_cloned(source, target)
    from_here = target if cloned else source
    if cloned:
        target.seek(0)
        from_here = open(target.name, "rb")  # noqa: SIM115  # closed below; the target itself is open for writing alone
    try:
        while chunk := from_here.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if not cloned:
                target.write(chunk)
    finally:
        if cloned:
            from_here.close()
    return digest.hexdigest(), size


def _is_cloned(source: BinaryIO, target: BinaryIO) -> bool:
    with contextlib.suppress(OSError):
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        return True
    return False


@contextmanager
def _errors_explained(target: Path) -> Iterator[None]:
    """Have it said where there was no room, or what could not be written."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackupError(f"{target}: there is no room left: {error}") from error
        raise BackupError(f"{target} can't be written: {error}") from error
