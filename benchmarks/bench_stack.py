"""A broker and a registry of a benchmark's own, with the programs that ``k2 up`` runs."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_resources.settings import Settings


@dataclass(frozen=True)
class BenchStack:
    """Where broker and registry answer."""

    bootstrap_servers: str
    registry_port: int

    @property
    def registry_url(self) -> str:
        """The Confluent-compatible API of the registry."""
        return f"http://127.0.0.1:{self.registry_port}/apis/ccompat/v7"


@contextmanager
def bench_stack(directory: Path) -> Iterator[BenchStack]:
    """Start both, and stop them at the end; their data stays in the directory."""
    artifacts = JavaArtifacts(Settings.load().home / "java")
    kafka_port, controller_port, registry_port = free_ports(3)
    kafka = LocalKafka(directory / "kafka", kafka_port, controller_port, artifacts)
    registry = LocalRegistry(directory / "registry", registry_port, artifacts)
    supervisor = Supervisor(directory / "run", directory / "logs", until_parent_ends=True)
    with ExitStack() as stack:
        for service in (kafka, registry):
            stack.enter_context(supervisor.running(service))
        yield BenchStack(kafka.bootstrap_servers, registry_port)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
