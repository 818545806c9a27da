"""Starts and stops the services of the local stack, in the order of their dependencies.

What a setting points elsewhere (``K2_KAFKA_BOOTSTRAP``, ``K2_REGISTRY_URL``) is not started here.
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2_cli.stack.dagster_processes import CodeServer, Daemon, Webserver
from k2_cli.stack.exporter_process import Exporter
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import (
    PortTakenError,
    Service,
    ServiceError,
    ServiceState,
    ServiceStatus,
    Supervisor,
)
from k2_cli.stack.registry_process import LocalRegistry
from k2_cli.stack.started_feeds import READERS, changes_since_start, forget_started_feeds, note_started_feeds
from k2_platform.dagster_storage import DagsterHome, pools_of_feeds
from k2_resources.dagster.automation_owner import other_automator
from k2_resources.files.private_directories import make_private
from k2_resources.settings import Settings

Report = Callable[[str], None]
"""Told, a line at a time, what goes on."""

_NEEDS = {"webserver": ("code-server",), "daemon": ("code-server", "webserver")}


@dataclass(frozen=True)
class LocalStack:
    """Services in the order in which they start, and where what is known of them is kept."""

    home: Path
    services: tuple[Service, ...]
    supervisor: Supervisor
    feed_directories: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "LocalStack":
        """Return the stack that the settings describe.

        Raises:
            FeedFileError: A feed's file is wrong.
        """
        pools = pools_of_feeds(settings)
        services = tuple(each for each in _services(settings, pools) if not _is_elsewhere(each, settings))
        supervisor = Supervisor(settings.home / "run", settings.log_directory)
        return cls(settings.home, services, supervisor, tuple(settings.feed_directories))

    @classmethod
    def to_stop(cls, settings: Settings) -> "LocalStack":
        """Return every service that may have been started from this home, whatever the settings say by now."""
        services = tuple(_services(settings, pools=()))
        return cls(settings.home, services, Supervisor(settings.home / "run", settings.log_directory))

    @classmethod
    def to_show(cls, settings: Settings) -> "LocalStack":
        """Return the stack that the settings describe, and what runs beside it though they point elsewhere."""
        every = cls.to_stop(settings)
        shown = tuple(
            each
            for each in every.services
            if not _is_elsewhere(each, settings) or every.supervisor.status(each).state is ServiceState.RUNNING
        )
        return cls(every.home, shown, every.supervisor)

    def only(self, names: Sequence[str]) -> "LocalStack":
        """Return the stack of some services, by name, and what those need.

        Raises:
            ServiceError: There is no service of that name.
        """
        known = [service.name for service in self.services]
        for name in names:
            if name not in known:
                raise ServiceError(f"{name!r} is no service that is started here; those are {', '.join(known)}")
        wanted = {*names, *(needed for name in names for needed in _NEEDS.get(name, ()))}
        chosen = tuple(service for service in self.services if service.name in wanted)
        return LocalStack(self.home, chosen, self.supervisor, self.feed_directories)

    def status(self) -> list[ServiceStatus]:
        """Tell what is known of each service."""
        return [self.supervisor.status(service) for service in self.services]

    def up(self, report: Report) -> list[str]:
        """Start what does not run, each service after the one before it is healthy.

        What has read feed files that changed since is restarted; runs under way are ended with it, and made again.

        Returns:
            The names of the services that were started.

        Raises:
            PortTakenError: Ports are taken by processes that are not ours; nothing was started.
            ServiceError: A service did not come up; those before it are left running.
        """
        with self._one_command_at_a_time():
            self._require_no_other_automator()
            self._stop_readers_of_changed_files(report)
            before = self.status()
            self._require_free_ports(before)
            started = []
            for service, status in zip(self.services, before, strict=True):
                if status.state is not ServiceState.RUNNING:
                    report(f"{service.name}: {status.detail or 'starting'}")
                    started.append(service.name)
                    if service.name == "code-server":
                        note_started_feeds(self.home, self.feed_directories)
                self.supervisor.start(service)
            return started

    def down(self, report: Report) -> None:
        """Stop what runs, last started first; data stays.

        Raises:
            ServiceError: A process does not end.
        """
        with self._one_command_at_a_time():
            for service in reversed(self.services):
                if self.supervisor.stop(service):
                    report(f"{service.name}: stopped")
            if any(service.name == "code-server" for service in self.services):
                forget_started_feeds(self.home)

    def _require_no_other_automator(self) -> None:
        if any(service.name == "code-server" for service in self.services):
            other = other_automator(self.home, str((self.home / "dagster").resolve()))
            if other is not None:
                raise ServiceError(
                    f"{other} automates this home already (`dagster dev`?): its sensors start runs and send alerts. "
                    "Stop it first"
                )

    def _stop_readers_of_changed_files(self, report: Report) -> None:
        running = {each.name for each in self.status() if each.state is ServiceState.RUNNING}
        changes = changes_since_start(self.home, self.feed_directories) if "code-server" in running else ()
        if changes:
            report(f"feed files: {', '.join(changes)}; what has read them is restarted")
            for service in reversed(self.services):
                if service.name in READERS and self.supervisor.stop(service):
                    report(f"{service.name}: stopped")

    def _require_free_ports(self, statuses: Sequence[ServiceStatus]) -> None:
        refusals = []
        for service, status in zip(self.services, statuses, strict=True):
            if status.state is ServiceState.FOREIGN:
                try:
                    self.supervisor.require_free_ports(service)
                except PortTakenError as error:
                    refusals.append(str(error))
        if refusals:
            raise PortTakenError(
                "\n    ".join(["nothing was started:", *refusals]) if len(refusals) > 1 else refusals[0]
            )

    @contextmanager
    def _one_command_at_a_time(self) -> Iterator[None]:
        directory = self.supervisor.record_directory
        try:
            make_private(directory)
            lock = (directory / ".lock").open("w")
        except OSError as error:
            raise ServiceError(
                f"{directory}: can't be written: {error}. Set K2_HOME to a directory of yours."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServiceError(
                    f"another `k2 up` or `k2 down` is at work on {self.home}; wait for it to end"
                ) from error
            yield


def _is_elsewhere(service: Service, settings: Settings) -> bool:
    """Say whether a setting points elsewhere for what the service does."""
    elsewhere = {"kafka": settings.kafka_bootstrap, "registry": settings.registry_url}
    return elsewhere.get(service.name) is not None


def _services(settings: Settings, pools: tuple[str, ...]) -> Iterator[Service]:
    artifacts = JavaArtifacts(settings.home / "java")
    environment = settings.environment_variables()
    yield LocalKafka(settings.home / "kafka", settings.kafka_port, settings.kafka_controller_port, artifacts)
    yield LocalRegistry(settings.home / "registry", settings.registry_port, artifacts, environment=environment)
    dagster = DagsterHome(settings.dagster_home, settings.code_server_port, environment)
    webserver = Webserver(dagster, settings.dagster_port)
    yield CodeServer(dagster, pools)
    yield webserver
    yield Daemon(dagster, webserver)
    yield Exporter(settings.metrics_port, environment | {"DAGSTER_HOME": str(settings.dagster_home)})
