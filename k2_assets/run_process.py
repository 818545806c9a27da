"""The process that carries out a run, written into the run's tags so that its death can be noticed."""

import os
import socket
from dataclasses import dataclass

import dagster as dg
import psutil

PROCESS_TAG = "k2/process"


@dataclass(frozen=True)
class RunProcess:
    """A process on a host, told apart from a later one with the same number by when it began."""

    host: str
    pid: int
    started: int

    @classmethod
    def own(cls) -> "RunProcess":
        """This process."""
        return cls(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()))

    @classmethod
    def parse(cls, text: str) -> "RunProcess":
        """The process that a tag names."""
        host, pid, started = text.rsplit("/", 2)
        return cls(host, int(pid), int(started))

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}"

    def is_gone(self) -> bool:
        """Whether it is certain that the process no longer runs; of other hosts nothing is certain."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(int(process.create_time()) - self.started) > 1 or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def sign(context: dg.AssetExecutionContext) -> None:
    """Write this process into the run's tags."""
    context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: str(RunProcess.own())})
