"""Makes one Dagster instance at a time the owner of a home's sensors and schedules (#050).

The code server of an instance claims the home when it loads the definitions. Another instance (`dagster dev` beside
`k2 up`) loads them without sensors and schedules for as long as the first one's process lives.
"""

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from k2_resources.files.private_directories import make_private

_CREATION_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class Automator:
    """Describes a process that serves the definitions to the daemon of a Dagster instance.

    Attributes:
        instance: The instance: its home, or the topmost process of Dagster where that is a directory of its own making.
        pid: The process's id.
        created: When it started, in seconds since 1970.
    """

    instance: str
    pid: int
    created: float

    @classmethod
    def own(cls) -> "Automator":
        """Describe this process."""
        process = psutil.Process()
        home = os.environ.get("DAGSTER_HOME")
        instance = str(Path(home).resolve()) if home else f"process {_topmost_of_dagster(process).pid}"
        return cls(instance, process.pid, process.create_time())

    @property
    def is_alive(self) -> bool:
        """Say whether that very process still runs."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            started = abs(process.create_time() - self.created) <= _CREATION_TOLERANCE_SECONDS
            return started and bool(process.status() != psutil.STATUS_ZOMBIE)
        return False

    def __str__(self) -> str:
        """As messages name it."""
        return f"pid {self.pid} of the Dagster instance {self.instance}"


def claim(home: Path, own: Automator) -> Automator | None:
    """Claim a home for an instance; a process of the same instance takes over from an earlier one.

    Args:
        home: K2's home.
        own: The claiming process.

    Returns:
        The other instance's process that automates the home; None where it is ours now.
    """
    path = _path(home)
    make_private(path.parent)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = other_automator(home, own.instance)
        if holder is None:
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(asdict(own)), encoding="utf-8")
            unfinished.replace(path)
        return holder


def other_automator(home: Path, instance: str) -> Automator | None:
    """Give the living process of another instance that automates a home; None where there is none."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        holder = Automator(**json.loads(_path(home).read_text(encoding="utf-8")))
        return holder if holder.instance != instance and holder.is_alive else None
    return None


def _topmost_of_dagster(process: psutil.Process) -> psutil.Process:
    with contextlib.suppress(psutil.Error):
        for parent in process.parents():
            if not any("dagster" in part for part in parent.cmdline()):
                break
            process = parent
    return process


def _path(home: Path) -> Path:
    return home / "run" / "automation.json"
