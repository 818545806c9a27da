"""The local stack's Dagster: a code server with our definitions, the webserver and the daemon, on one home.

The code server is a process of its own, so that the definitions are loaded once and not by webserver and daemon
each; runs are its children.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from k2_cli.dagster_storage import alone_in, initialise
from k2_cli.health_probes import code_server_serves, graphql, http_answers, refuses_other_hosts
from k2_cli.port_owners import is_taken
from k2_cli.process_supervision import Command, Port, ServiceError
from k2_resources.private_directories import make_private

_DAGSTER_YAML = Path(__file__).resolve().parent.parent / "deploy" / "local" / "dagster.yaml"
_EVENT_STORAGE_CLASS = "module: k2_resources.kept_event_storage"
_EVENT_STORAGE = f"""
# Added by `k2 up`: where Dagster keeps its events anyway, through connections that are kept.
event_log_storage:
  {_EVENT_STORAGE_CLASS}
  class: KeptEventStorage
  config:
    base_dir: {{base_dir}}
"""
_LOG_AS_JSON = ("--log-format", "json")
_DAEMONS_QUERY = "{instance{daemonHealth{allDaemonStatuses{required healthy lastHeartbeatTime}}}}"
_WORKSPACE = """\
# Written by `k2 up`.
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: k2
"""


@dataclass(frozen=True)
class DagsterHome:
    """Dagster's own directory: its settings, its storage, and where it finds the code server.

    ``environment`` is what every process of Dagster gets on top of ours.
    """

    directory: Path
    code_server_port: int
    environment: Mapping[str, str]

    @property
    def workspace(self) -> Path:
        """The file that tells webserver and daemon where the code server is."""
        return self.directory / "workspace.yaml"

    @property
    def is_written(self) -> bool:
        """Say whether its settings are there and are its own: those of a copied home name the original's events."""
        try:
            settings = (self.directory / "dagster.yaml").read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        return _EVENT_STORAGE_CLASS not in settings or self._events in settings

    def write(self, into: Path | None = None) -> None:
        """Write both files; the settings are the ones that ship, and where events lie, whatever was there.

        Args:
            into: Where they go; into the directory itself unless given.

        Raises:
            ServiceError: Dagster's storage can't lie there.
        """
        if "?" in str(self.directory):
            raise ServiceError(
                f"dagster: {self.directory}: Dagster's SQLite files can't lie below a path with ?; set K2_HOME to one "
                "without"
            )
        place = self.directory if into is None else into
        make_private(place)
        shipped = _DAGSTER_YAML.read_text(encoding="utf-8")
        (place / "dagster.yaml").write_text(shipped + self._events, encoding="utf-8")
        (place / self.workspace.name).write_text(_WORKSPACE.format(port=self.code_server_port), encoding="utf-8")

    @property
    def _events(self) -> str:
        return _EVENT_STORAGE.format(base_dir=json.dumps(str(self.directory / "history" / "runs")))

    def command(self, module: str, *arguments: str) -> Command:
        """A Python module, to be run on this home."""
        environment = {**self.environment, "DAGSTER_HOME": str(self.directory)}
        return Command([sys.executable, "-m", module, *arguments], environment)


@dataclass(frozen=True)
class CodeServer:
    """Serves the definitions and starts the processes of runs; ``pools`` are those whose runs take turns."""

    home: DagsterHome
    pools: tuple[str, ...] = ()
    module: str = "k2_assets.code_location"

    name = "code-server"
    url = None
    start_timeout_seconds = 120.0
    stop_timeout_seconds = 30.0

    @property
    def ports(self) -> tuple[Port, ...]:
        """The port of its gRPC interface."""
        return (Port(self.home.code_server_port, "K2_CODE_SERVER_PORT"),)

    def prepare(self) -> Command:
        """Make Dagster's home and say how to run it."""
        with alone_in(self.home.directory):
            self.home.write()
            initialise(self.home.directory, self.pools)
        arguments = ["--host", "127.0.0.1", "--port", str(self.home.code_server_port)]
        arguments += ["--module-name", self.module, "--attribute", "defs", "--location-name", "k2"]
        arguments += ["--use-python-environment-entry-point", *_LOG_AS_JSON]
        return self.home.command("dagster", "api", "grpc", *arguments)

    def is_healthy(self, _since: datetime, /) -> bool:
        """Say whether it has loaded the definitions and serves them."""
        return is_taken(self.home.code_server_port) and code_server_serves(self.home.code_server_port)


@dataclass(frozen=True)
class Webserver:
    """Dagster's UI and GraphQL interface."""

    home: DagsterHome
    port: int

    name = "webserver"
    start_timeout_seconds = 120.0
    stop_timeout_seconds = 15.0

    @property
    def ports(self) -> tuple[Port, ...]:
        """The port of the UI."""
        return (Port(self.port, "K2_DAGSTER_PORT"),)

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Command:
        """Say how to run it."""
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workspace", str(self.home.workspace)]
        return self.home.command("k2_cli.guarded_webserver", *arguments)

    def is_healthy(self, _since: datetime, /) -> bool:
        """Say whether the UI answers, and answers nobody who asks by a name that is not its own."""
        return http_answers(f"{self.url}/server_info") and refuses_other_hosts(f"{self.url}/server_info")


@dataclass(frozen=True)
class Daemon:
    """Runs sensors, schedules, backfills and the queue of runs; its health is asked from the webserver."""

    home: DagsterHome
    webserver: Webserver

    name = "daemon"
    ports = ()
    url = None
    start_timeout_seconds = 120.0
    stop_timeout_seconds = 30.0

    def prepare(self) -> Command:
        """Say how to run it."""
        return self.home.command("dagster._daemon", "run", "--workspace", str(self.home.workspace), *_LOG_AS_JSON)

    def is_healthy(self, since: datetime, /) -> bool:
        """Say whether each of the daemon's parts has given a sign of life since its process started."""
        answer = graphql(f"{self.webserver.url}/graphql", _DAEMONS_QUERY)
        if answer is None:
            return False
        daemons = [each for each in answer["instance"]["daemonHealth"]["allDaemonStatuses"] if each["required"]]
        return bool(daemons) and all(
            each["healthy"] and (each["lastHeartbeatTime"] or 0) >= since.timestamp() for each in daemons
        )
