"""The local stack's schema registry: Apicurio with Confluent's API, its schemas in an H2 file of ours."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from k2_cli.health_probes import http_answers
from k2_cli.java_artifacts import JavaArtifacts, java_executable
from k2_cli.process_supervision import Command, Port


@dataclass(frozen=True)
class LocalRegistry:
    """A schema registry: its schemas in ``directory``, its programs from ``artifacts``."""

    directory: Path
    port: int
    artifacts: JavaArtifacts
    heap_mebibytes: int = 256

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
            JavaArtifactError: Its programs can't be had.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.port,
            # Left alone, its management interface listens on port 9000 of every network.
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": 0,
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.directory / 'schemas'}",
            "apicurio.datasource.jdbc.initial-size": 1,
            "apicurio.datasource.jdbc.min-size": 1,
            "apicurio.datasource.jdbc.max-size": 8,
        }
        return Command(
            [
                str(java_executable()),
                f"-Xmx{self.heap_mebibytes}m",
                "-XX:+ExitOnOutOfMemoryError",
                "-XX:+UseSerialGC",
                # It starts a third faster so, and answers few questions: clients keep the schemas they have seen.
                "-XX:TieredStopAtLevel=1",
                *(f"-D{name}={value}" for name, value in options.items()),
                "-jar",
                str(self.artifacts.registry_directory() / "quarkus-run.jar"),
            ]
        )

    def is_healthy(self, _since: datetime, /) -> bool:
        """Whether its API answers."""
        return http_answers(f"{self.url}/subjects")
