"""Runs the local stack's Kafka: one KRaft node on loopback."""

import base64
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from k2_cli.stack.health_probes import kafka_answers
from k2_cli.stack.java_artifacts import JavaArtifacts, java_executable
from k2_cli.stack.port_owners import is_taken
from k2_cli.stack.process_supervision import Command, Port, ServiceError
from k2_resources.files.private_directories import make_private

_TEMPLATES = Path(str(files("k2_cli.stack") / "files"))
_FORMAT_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class LocalKafka:
    """A Kafka broker of one node: its data and settings in ``directory``, its programs from ``artifacts``."""

    directory: Path
    port: int
    controller_port: int
    artifacts: JavaArtifacts
    heap_mebibytes: int = 1024

    name = "kafka"
    start_timeout_seconds = 90.0
    stop_timeout_seconds = 30.0

    @property
    def ports(self) -> tuple[Port, ...]:
        """The broker's port, then its controller's."""
        return Port(self.port, "K2_KAFKA_PORT"), Port(self.controller_port, "K2_KAFKA_CONTROLLER_PORT")

    @property
    def bootstrap_servers(self) -> str:
        """Tell where Kafka clients find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Tell where Kafka clients find it."""
        return self.bootstrap_servers

    def prepare(self) -> Command:
        """Write the broker's settings and, the first time, format its data directory.

        Raises:
            JavaArtifactError: Kafka's archives can't be had.
            ServiceError: The data directory can't be formatted.
        """
        make_private(self.directory)
        data = self.directory / "data"
        if not (data / "meta.properties").exists():
            self._format(data)
        properties = self._write_properties("server.properties", data)
        return Command(self._java("kafka.Kafka", str(properties), self.heap_mebibytes), directory=self.directory)

    def is_healthy(self, _since: datetime, /) -> bool:
        """Say whether the broker answers a client."""
        return is_taken(self.port) and kafka_answers(self.bootstrap_servers)

    def _format(self, data: Path) -> None:
        # Formatted beside its place and moved there, so that an interrupted format is done again from the start.
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
        properties = self._write_properties("format.properties", unfinished)
        command = self._java("kafka.tools.StorageTool", "format", 256)
        command += ["--standalone", "--cluster-id", _new_cluster_id(), "--config", str(properties)]
        done = subprocess.run(
            command,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(f"kafka: {data} can't be formatted:\n{done.stdout}{done.stderr}")
        unfinished.rename(data)

    def _java(self, main_class: str, argument: str, heap_mebibytes: int) -> list[str]:
        return [
            str(java_executable()),
            f"-Xmx{heap_mebibytes}m",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j.configurationFile={_TEMPLATES / 'log4j2.properties'}",
            "-cp",
            self.artifacts.kafka_classpath(self.directory),
            main_class,
            argument,
        ]

    def _write_properties(self, name: str, data: Path) -> Path:
        template = (_TEMPLATES / "server.properties").read_text(encoding="utf-8")
        # By its name alone, from where Kafka runs: a comma or a backslash in the path would be taken for more.
        values = {"port": self.port, "controller_port": self.controller_port, "log_directory": data.name}
        settings = "\n".join(line for line in template.splitlines() if not line.startswith("#"))
        path = self.directory / name
        path.write_text(settings.format_map(values) + "\n", encoding="utf-8")
        return path


def _new_cluster_id() -> str:
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not cluster_id.startswith("-"):  # the format tool would take it for an option
            return cluster_id
