"""Runs the local stack's Dagster: a code server with K2's definitions, the webserver and the daemon.

The code server is a process of its own, so that the definitions are loaded once and not by webserver and daemon
each; runs are its children.
"""

import sys
from dataclasses import dataclass
from datetime import datetime

from k2_cli.stack.health_probes import code_server_serves, graphql, http_answers, refuses_other_hosts
from k2_cli.stack.port_owners import is_taken
from k2_cli.stack.process_supervision import Command, Port
from k2_platform.dagster_storage import DagsterHome, exclusive_lock, initialise

_LOG_AS_JSON = ("--log-format", "json")
_DAEMONS_QUERY = "{instance{daemonHealth{allDaemonStatuses{required healthy lastHeartbeatTime}}}}"


@dataclass(frozen=True)
class CodeServer:
    """Serves the definitions and starts the processes of runs; ``pools`` are those whose runs take turns."""

    home: DagsterHome
    pools: tuple[str, ...] = ()
    module: str = "k2_platform.code_location"

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
        with exclusive_lock(self.home.directory):
            self.home.write()
            initialise(self.home.directory, self.pools)
        arguments = ["--host", "127.0.0.1", "--port", str(self.home.code_server_port)]
        arguments += ["--module-name", self.module, "--attribute", "defs", "--location-name", "k2"]
        arguments += ["--use-python-environment-entry-point", *_LOG_AS_JSON]
        return command_on(self.home, "dagster", "api", "grpc", *arguments)

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
        """Tell where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Command:
        """Say how to run it."""
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workspace", str(self.home.workspace)]
        return command_on(self.home, "k2_cli.stack.guarded_webserver", *arguments)

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
        return command_on(self.home, "dagster._daemon", "run", "--workspace", str(self.home.workspace), *_LOG_AS_JSON)

    def is_healthy(self, since: datetime, /) -> bool:
        """Say whether each of the daemon's parts has given a sign of life since its process started."""
        answer = graphql(f"{self.webserver.url}/graphql", _DAEMONS_QUERY)
        if answer is None:
            return False
        daemons = [each for each in answer["instance"]["daemonHealth"]["allDaemonStatuses"] if each["required"]]
        return bool(daemons) and all(
            each["healthy"] and (each["lastHeartbeatTime"] or 0) >= since.timestamp() for each in daemons
        )


def command_on(home: DagsterHome, module: str, *arguments: str) -> Command:
    """Give the command that runs a Python module on a Dagster home."""
    environment = {**home.environment, "DAGSTER_HOME": str(home.directory)}
    return Command([sys.executable, "-m", module, *arguments], environment)
