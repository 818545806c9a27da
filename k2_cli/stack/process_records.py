"""Records which process was started for a service, so that later commands recognise it, or see that it is another."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from k2_resources.files.private_directories import make_private

_LIES_AT = "record"
"""The name under which a record holds the path of its own file."""

_CREATION_TOLERANCE_SECONDS = 2.0
"""A process's start time is reckoned from the boot time, which moves a little when the clock is corrected."""


@dataclass(frozen=True)
class ProcessRecord:
    """A process that we started: its id, its start (seconds since the epoch) and what was asked to run.

    Ids are reused, so the id alone does not say that a process is ours.
    """

    pid: int
    created: float
    command: tuple[str, ...]

    @classmethod
    def of(cls, pid: int, command: Sequence[str]) -> "ProcessRecord":
        """Return the record of a running process.

        Raises:
            psutil.NoSuchProcess: It has ended already.
        """
        return cls(pid, psutil.Process(pid).create_time(), tuple(command))

    @property
    def since(self) -> datetime:
        """Tell when the process started, UTC."""
        return datetime.fromtimestamp(self.created, UTC)

    def is_running(self) -> bool:
        """Say whether that very process still runs: the same id, and the same start or the same command line."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            same_start = abs(process.create_time() - self.created) <= _CREATION_TOLERANCE_SECONDS
            return same_start or tuple(process.cmdline()) == self.command
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return False  # ours run as ourselves

    def save(self, path: Path) -> None:
        """Write the record to a file, whole or not at all; it says where it lies, so that a copy is known as one."""
        make_private(path.parent)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({**asdict(self), _LIES_AT: os.path.realpath(path)}), encoding="utf-8")
        unfinished.replace(path)


def read_record(path: Path) -> ProcessRecord | None:
    """Return the record in a file; ``None`` if there is none that can be read, or if it is a copy of another home's.

    The process of a copied record is not ours: whoever stopped it would stop the other home's.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        fields = json.loads(path.read_text(encoding="utf-8"))
        written_at = fields.get(_LIES_AT, path)
        if os.path.realpath(path) != os.path.realpath(written_at) and os.path.exists(written_at):
            return None
        return ProcessRecord(int(fields["pid"]), float(fields["created"]), tuple(fields["command"]))
    return None
