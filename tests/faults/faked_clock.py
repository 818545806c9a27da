"""A clock of a test's own for the processes it starts: ahead, behind, or set while they run."""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

_SOURCE = Path(__file__).with_name("faked_clock.c")


@dataclass(frozen=True)
class FakedClock:
    """A wall clock for processes that get its environment; it has to be set before they start, and may be set after.

    Attributes:
        directory: Where the clock is kept.
    """

    directory: Path

    def __post_init__(self) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("a clock for other processes is made with a C compiler, and there is no `cc`")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(_SOURCE)], check=True)
        self.set_ahead(timedelta())

    def set_ahead(self, by: timedelta) -> None:
        """Set it ahead of the machine's clock, or behind."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", int(by.total_seconds())))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to have this clock."""
        return {"LD_PRELOAD": str(self._library), "FAKED_CLOCK": str(self._file)}

    @property
    def _library(self) -> Path:
        return self.directory / "faked_clock.so"

    @property
    def _file(self) -> Path:
        return self.directory / "clock"


def wait_until_stopped(pid: int) -> None:
    """Wait until a process has been stopped by SIGSTOP."""
    waiting = Retrying(
        retry=retry_if_result(lambda status: status != psutil.STATUS_STOPPED),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(240),
    )
    waiting(psutil.Process(pid).status)
