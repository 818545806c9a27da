"""Writes the process that carries out a run into the run's tags, so that the run watch notices its death."""

import socket
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil

from k2_assets.records.run_tags import PROCESS_TAG

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class RunProcess:
    """Identifies a process on a host by its number and its start time, since numbers are used again.

    Attributes:
        host: The host's name.
        boot: Which of the host's times of being up, where it can be told.
        pid: The process's number.
        started: When it began, by a reckoning that does not change when the clock is set.
    """

    host: str
    boot: str
    pid: int
    started: int

    @classmethod
    def own(cls) -> "RunProcess":
        """Return this process."""
        return cls.of(psutil.Process())

    @classmethod
    def of(cls, process: psutil.Process) -> "RunProcess":
        """Return a process of this host."""
        return cls(socket.gethostname(), _boot(), process.pid, _started(process))

    @classmethod
    def parse(cls, text: str) -> "RunProcess":
        """Return the process that a tag names.

        Raises:
            ValueError: It names none.
        """
        host, boot, pid, started = text.rsplit("/", 3)
        return cls(host, boot, int(pid), int(started))

    def __str__(self) -> str:
        return f"{self.host}/{self.boot}/{self.pid}/{self.started}"

    def is_gone(self) -> bool:
        """Say whether it is certain that the process no longer runs; of other hosts nothing is certain."""
        if self.host != socket.gethostname():
            return False
        if self.boot != _boot():
            return True
        try:
            process = psutil.Process(self.pid)
            return abs(_started(process) - self.started) > 1 or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False  # there is a process of that number, and no saying which


def record_process(context: dg.AssetExecutionContext) -> None:
    """Write this process into the run's tags."""
    context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: str(RunProcess.own())})


def _boot() -> str:
    return _BOOT_ID.read_text().strip().partition("-")[0] if psutil.LINUX else ""


def _started(process: psutil.Process) -> int:
    # Linux reckons from the boot, whose time moves with the clock: the difference of the two does not.
    return int(process.create_time() - psutil.boot_time()) if psutil.LINUX else int(process.create_time())
