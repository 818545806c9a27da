"""Appends log lines to the one file that all of K2's processes share, and rotates it."""

import fcntl
import logging
import os
import sys
from pathlib import Path

from k2_resources.files.private_directories import make_private


class SharedLogFile(logging.Handler):
    """Appends each record as one line by one ``write`` to a file opened with ``O_APPEND``.

    So lines of several processes never mix. The file is opened anew when it was moved or deleted, hence any process, or
    an outside logrotate (``create`` mode, not ``copytruncate``), may rotate it: the others write on to the file that
    was moved away until they notice, and no line is lost.

    Args:
        path: The file.
        largest: Bytes after which it is moved away, to ``<name>.1``; that to ``.2``, and so on.
        kept: How many files that were moved away are kept.
    """

    def __init__(self, path: Path, largest: int, kept: int) -> None:
        super().__init__()
        self._path = path
        self._largest = largest
        self._kept = kept
        self._descriptor: int | None = None
        self._size = 0
        self._identity: tuple[int, int] | None = None
        self._broken = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line; called by ``logging`` under the handler's lock."""
        try:
            line = self.format(record) + "\n"
            os.write(self._open(), line.encode("utf-8", "backslashreplace"))
            self._broken = False
            if self._size >= self._largest:
                self._rotate()
        except OSError as error:
            self._complain(error)
        except Exception:
            # A record that can't be formatted must not break who logged it; logging shows it on stderr.
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        self.acquire()
        try:
            self._forget()
        finally:
            self.release()
        super().close()

    def _rotate(self) -> None:
        with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another process is at it
            if self._path.stat().st_size >= self._largest:  # and has not just done it
                rotate(self._path, self._kept)

    def _open(self) -> int:
        identity, self._size = _identity(self._path)
        if self._descriptor is None or identity != self._identity:
            self._forget()
            make_private(self._path.parent)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._identity, self._size = _identity(self._path)
        return self._descriptor

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _complain(self, error: OSError) -> None:
        # Once per outage: a full disk must neither stop the work nor flood the terminal.
        if not self._broken:
            self._broken = True
            sys.stderr.write(f"k2: log lines are lost, {self._path} can't be written: {error}\n")


def rotate(path: Path, kept: int) -> None:
    """Move a log away to ``<name>.1``, after the earlier ones were moved one further; the last one goes."""
    for number in range(kept, 0, -1):
        earlier = path if number == 1 else _numbered(path, number - 1)
        if earlier.exists():
            earlier.replace(_numbered(path, number))


def log_files(path: Path) -> list[Path]:
    """List a log and the files that it was rotated to, the oldest first."""
    numbers = sorted(
        (int(each.suffix[1:]) for each in path.parent.glob(f"{path.name}.*") if each.suffix[1:].isdecimal()),
        reverse=True,
    )
    return [each for each in (*(_numbered(path, number) for number in numbers), path) if each.exists()]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _identity(path: Path) -> tuple[tuple[int, int] | None, int]:
    """Tell which file lies at a path, and its size."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_size
