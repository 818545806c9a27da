"""The log file that all of K2's processes share."""

import logging
import os
import sys
from pathlib import Path


class SharedLogFile(logging.Handler):
    """Appends each record as one line by one ``write`` to a file opened with ``O_APPEND``.

    So lines of several processes never mix. The file is opened anew when it was moved or deleted, hence an
    outside logrotate may rotate it (``create`` mode, not ``copytruncate``); K2 does not rotate it itself, since
    processes that rotate one file each on their own lose lines.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._broken = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line; called by ``logging`` under the handler's lock."""
        try:
            line = self.format(record) + "\n"
            os.write(self._open(), line.encode("utf-8", "backslashreplace"))
            self._broken = False
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

    def _open(self) -> int:
        identity = _identity(self._path)
        if self._descriptor is None or identity != self._identity:
            self._forget()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._identity = _identity(self._path)
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


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
