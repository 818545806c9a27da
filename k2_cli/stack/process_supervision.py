"""Starts a service's process, waits until it is healthy, recognises it later, and stops it with its children.

Each service runs in a session of its own, so that it outlives the command that started it and can be stopped
together with whatever it has started itself.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import psutil

from k2_cli.stack.port_owners import owner_of
from k2_cli.stack.process_records import ProcessRecord, read_record
from k2_market.errors import K2Error
from k2_resources.files.private_directories import make_private

_POLL_SECONDS = 0.1
_KILL_GRACE_SECONDS = 5.0
_LOG_ROTATE_BYTES = 20 * 2**20
_LOG_TAIL_LINES = 30
_MARK = "K2_SUPERVISED"
"""The environment variable by which what a service started is known as its own."""


class ServiceError(K2Error):
    """A service of the local stack could not be started or stopped."""


class PortTakenError(ServiceError):
    """Another process listens on a port that a service needs."""


@dataclass(frozen=True)
class Port:
    """A port that a service listens on and the environment variable that moves it."""

    number: int
    setting: str


@dataclass(frozen=True)
class Command:
    """Describes what to run: program, arguments, the environment's additions, the directory (any, if None)."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None


class Service(Protocol):
    """A server that the local stack runs as a process of its own."""

    @property
    def name(self) -> str:
        """Its name, also that of its log."""

    @property
    def ports(self) -> Sequence[Port]:
        """Tell what it listens on, the one that clients use first."""

    @property
    def url(self) -> str | None:
        """Tell where clients find it."""

    @property
    def start_timeout_seconds(self) -> float:
        """Tell how long it may take to answer on a slow machine."""

    @property
    def stop_timeout_seconds(self) -> float:
        """Tell how long it may take to stop by itself before it is killed."""

    def prepare(self) -> Command:
        """Make what the process needs, and say how to run it."""

    def is_healthy(self, since: datetime, /) -> bool:
        """Say whether the process that started at ``since`` does its work."""


class ServiceState(StrEnum):
    """Describes what is known of a service's process."""

    RUNNING = "running"
    STOPPED = "stopped"
    STALE = "stale"
    """It ended without being stopped: a crash, a kill, a reboot."""
    FOREIGN = "foreign"
    """Its port is taken by a process that is not ours."""


@dataclass(frozen=True)
class ServiceStatus:
    """Describes what is known of a service; ``pid`` is that of the process on its port, ours or not."""

    name: str
    state: ServiceState
    pid: int | None
    port: int | None
    url: str | None
    since: datetime | None
    detail: str | None = None


@dataclass(frozen=True)
class Supervisor:
    """Starts and stops services, with records of what it started in one directory and their logs in another.

    ``until_parent_ends`` has Linux kill the services when this process ends, however it ends: for tests.
    """

    record_directory: Path
    log_directory: Path
    until_parent_ends: bool = False

    def status(self, service: Service) -> ServiceStatus:
        """Tell what is known of a service's process, from its record and its ports."""
        port = service.ports[0].number if service.ports else None
        record = read_record(self._record_path(service))
        if record is not None and record.is_running():
            return ServiceStatus(service.name, ServiceState.RUNNING, record.pid, port, service.url, record.since)
        for each in service.ports:
            owner = owner_of(each.number)
            if owner is not None:
                detail = f"port {each.number} is taken by {owner}"
                return ServiceStatus(service.name, ServiceState.FOREIGN, owner.pid, each.number, None, None, detail)
        if record is not None:
            detail = f"pid {record.pid} ended without being stopped; see {self.log_path(service)}"
            return ServiceStatus(service.name, ServiceState.STALE, None, port, None, None, detail)
        return ServiceStatus(service.name, ServiceState.STOPPED, None, port, None, None)

    def require_free_ports(self, service: Service) -> None:
        """Refuse to go on if another process has one of the service's ports.

        Raises:
            PortTakenError: Names the port, who has it, and the setting that moves the service.
        """
        for port in service.ports:
            owner = owner_of(port.number)
            if owner is not None:
                raise PortTakenError(
                    f"{service.name}: port {port.number} is taken by {owner}, which K2 did not start from this "
                    f"K2_HOME. Stop that process, or give {service.name} another port with {port.setting}."
                )

    def start(self, service: Service) -> ServiceStatus:
        """Start a service and wait until it is healthy; one that runs already is only waited for.

        Raises:
            PortTakenError: Another process has its port.
            ServiceError: It ended, or did not answer in time; its last log lines are shown. What was started here is
                stopped again.
        """
        record = read_record(self._record_path(service))
        if record is not None and record.is_running():
            self._await_health(service, record)
        else:
            self._start_anew(service)
        return self.status(service)

    def stop(self, service: Service) -> bool:
        """Stop a service and all that it started; False if it was not running.

        Raises:
            ServiceError: Something of it does not end even when killed.
        """
        path = self._record_path(service)
        record = read_record(path)
        if record is None:
            return False
        was_running = record.is_running()
        _end_processes(service, lambda: self._processes(service, record))
        path.unlink(missing_ok=True)
        return was_running

    @contextmanager
    def running(self, service: Service) -> Iterator[ServiceStatus]:
        """Run a service for as long as the block does."""
        status = self.start(service)
        try:
            yield status
        finally:
            self.stop(service)

    def log_path(self, service: Service) -> Path:
        """Tell where the service's output goes."""
        return self.log_directory / f"{service.name}.log"

    def _start_anew(self, service: Service) -> None:
        self.require_free_ports(service)
        try:
            record = self._spawn(service, service.prepare())
        except OSError as error:
            raise ServiceError(
                f"{service.name} can't be started: {error}. Is the disk full, or K2_HOME not yours?"
            ) from error
        try:
            self._await_health(service, record)
        except BaseException:
            self.stop(service)
            raise

    def _processes(self, service: Service, record: ProcessRecord) -> list[psutil.Process]:
        # All that the service started, and what they started, even if it is of an earlier start whose first process
        # was killed: they know each other by the mark.
        leader = record.pid if record.is_running() else None
        mark = self._mark(service)
        return [
            process
            for process in psutil.process_iter()
            if not _is_zombie(process) and (process.pid == leader or _environment(process).get(_MARK) == mark)
        ]

    def _mark(self, service: Service) -> str:
        return str(self._record_path(service))

    def _record_path(self, service: Service) -> Path:
        return self.record_directory / f"{service.name}.json"

    def _spawn(self, service: Service, command: Command) -> ProcessRecord:
        log = self.log_path(service)
        make_private(log.parent)
        if log.exists() and log.stat().st_size > _LOG_ROTATE_BYTES:
            log.replace(log.with_suffix(".log.1"))
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("fresh_process.py"))]
        if self.until_parent_ends:
            launcher += ["--until-parent-ends", str(os.getpid())]
        make_private(self.record_directory)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*launcher, *command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | command.environment | {_MARK: self._mark(service)},
                cwd=command.directory or self.record_directory,
                start_new_session=True,
            )
        process.returncode = 0  # the record stands for it from here on; unset, Popen would warn that it is left running
        record = ProcessRecord.of(process.pid, command.arguments)
        record.save(self._record_path(service))
        return record

    def _await_health(self, service: Service, record: ProcessRecord) -> None:
        deadline = time.monotonic() + service.start_timeout_seconds
        while not service.is_healthy(record.since):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{service.name} (pid {record.pid}) did not answer within {service.start_timeout_seconds:.0f} s. "
                    f"{self._last_lines(service)}"
                )
            if _ends_within(_POLL_SECONDS, record):
                break
        if not record.is_running():
            raise ServiceError(f"{service.name} ended while starting. {self._last_lines(service)}")

    def _last_lines(self, service: Service) -> str:
        log = self.log_path(service)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return f"The end of {log}:\n" + "\n".join(f"    {line}" for line in lines)


def _ends_within(seconds: float, record: ProcessRecord) -> bool:
    try:
        psutil.Process(record.pid).wait(seconds)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        return True
    return True


def _end_processes(service: Service, processes: Callable[[], list[psutil.Process]]) -> None:
    for number, grace_seconds in (
        (signal.SIGTERM, service.stop_timeout_seconds),
        (signal.SIGKILL, _KILL_GRACE_SECONDS),
    ):
        asked = processes()
        for process in asked:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + grace_seconds
        # Looked at again and again: an orphan that has ended may stay a zombie for long, which is as good as gone.
        while (alive := processes()) and time.monotonic() < deadline:
            psutil.wait_procs(alive, _POLL_SECONDS)
        psutil.wait_procs(asked, 0)  # reaps those that are our own children
    immortal = processes()
    if immortal:
        raise ServiceError(
            f"{service.name}: pid {immortal[0].pid} does not end even when killed; see what it waits for"
        )


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
