"""Runs the local stack's schema registry: Apicurio with Confluent's API, its schemas in an H2 file.

Clients find the guard (``registry_guard``); the registry itself is its child.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from k2_cli.stack.health_probes import http_answers, refuses_other_hosts
from k2_cli.stack.java_artifacts import JavaArtifacts, java_executable, java_path
from k2_cli.stack.process_supervision import Command, Port, ServiceError
from k2_resources.files.private_directories import make_private

USER = "k2"
"""The one user that the registry knows: its guard."""

_NOT_IN_A_PATH = frozenset("?[]\\")
"""Characters that the registry takes for a part of a URI, and H2 for a slash."""

FOR_ITS_GUARD_ALONE = {
    # Whatever is asked of it, the password is asked for.
    "quarkus.http.auth.permission.all.paths": "/*",
    "quarkus.http.auth.permission.all.policy": "authenticated",
    "quarkus.http.auth.basic": "true",
    "quarkus.security.users.embedded.enabled": "true",
    "quarkus.security.users.embedded.plain-text": "true",
    f"quarkus.security.users.embedded.roles.{USER}": "sr-admin",
    "apicurio.authn.enabled": "true",
    "apicurio.authn.mechanism.priority": "basic",
    # The guard answers no page of another origin; the registry's own list names some.
    "quarkus.http.cors.enabled": "false",
}
"""Settings by which the registry answers its guard alone; the containers' registry is set up likewise."""


@dataclass(frozen=True)
class LocalRegistry:
    """A schema registry: its schemas in ``directory``, its programs from ``artifacts``.

    ``environment`` is what its guard gets on top of ours: K2's settings.
    """

    directory: Path
    port: int
    artifacts: JavaArtifacts
    heap_mebibytes: int = 256
    environment: Mapping[str, str] = field(default_factory=dict)

    name = "registry"
    start_timeout_seconds = 120.0
    stop_timeout_seconds = 20.0

    @property
    def ports(self) -> tuple[Port, ...]:
        """The port of its API."""
        return (Port(self.port, "K2_REGISTRY_PORT"),)

    @property
    def url(self) -> str:
        """The base of its Confluent-compatible API."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def prepare(self) -> Command:
        """Say how to run it, with schemas that outlive the process.

        Raises:
            ServiceError: It can't run below such a path.
            JavaArtifactError: Its programs can't be had.
        """
        for path in (self.directory, self.artifacts.directory):
            if unusable := sorted(_NOT_IN_A_PATH & set(str(path))):
                raise ServiceError(
                    f"registry: {path}: it and its H2 can't run below a path with {' or '.join(unusable)}; set K2_HOME "
                    "to one without, or K2_REGISTRY_URL to a registry that runs elsewhere"
                )
        make_private(self.directory)
        guard = [sys.executable, "-m", "k2_cli.stack.registry_guard", "--port", str(self.port)]
        record = ["--record", str(self.directory / "process.json")]
        return Command([*guard, *record, "--", *self._registry()], self.environment, self.directory)

    def is_healthy(self, _since: datetime, /) -> bool:
        """Say whether its API answers, and answers nobody who asks by a name that is not its own."""
        url = f"{self.url}/subjects"
        return http_answers(url) and refuses_other_hosts(url)

    def _registry(self) -> list[str]:
        options = {
            "quarkus.http.host": "127.0.0.1",
            **FOR_ITS_GUARD_ALONE,
            # Its management interface has no log-in, and nobody asks it.
            "quarkus.management.host-enabled": "false",
            "apicurio.storage.sql.kind": "h2",
            # Written before it is answered: a schema that a killed registry forgot would leave its messages unreadable,
            # and its id to another schema.
            # Named from where the registry runs: a semicolon in the path would end it.
            "apicurio.datasource.url": "jdbc:h2:file:./schemas;WRITE_DELAY=0",
            "apicurio.datasource.jdbc.initial-size": 1,
            "apicurio.datasource.jdbc.min-size": 1,
            "apicurio.datasource.jdbc.max-size": 8,
        }
        return [
            str(java_executable()),
            f"-Xmx{self.heap_mebibytes}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:+UseSerialGC",
            # It starts a third faster so, and answers few questions: clients keep the schemas they have seen.
            "-XX:TieredStopAtLevel=1",
            *(f"-D{name}={value}" for name, value in options.items()),
            "-jar",
            java_path(self.artifacts.registry_directory() / "quarkus-run.jar", self.directory),
        ]
