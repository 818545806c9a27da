"""Brokers for tests that stop, pause, kill and rob them; each has a second listener that clients reach by a proxy."""

import shutil
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from free_ports import free_ports
from tcp_proxy import OPEN, TcpProxy

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor

_PROXIED = "PROXIED://127.0.0.1:{port}"


@dataclass(frozen=True)
class ProxiedKafka(LocalKafka):
    """A broker that tells the clients of its second listener to come by a proxy.

    Attributes:
        proxied_port: Where the second listener listens.
        proxy_port: Where clients are told that it is.
        settings: In addition to the local stack's.
    """

    proxied_port: int = 0
    proxy_port: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)

    def _write_properties(self, name: str, data: Path) -> Path:
        path = super()._write_properties(name, data)
        lines = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
        lines["listeners"] += "," + _PROXIED.format(port=self.proxied_port)
        lines["advertised.listeners"] += "," + _PROXIED.format(port=self.proxy_port)
        lines["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
        path.write_text("".join(f"{key}={value}\n" for key, value in {**lines, **self.settings}.items()), "utf-8")
        return path


@dataclass(frozen=True)
class FaultBroker:
    """A broker of one's own, its process and its files within reach.

    Attributes:
        kafka: The broker.
        proxy: The way to its second listener.
        supervisor: Starts it and stops it.
        starter: The one thread that starts it: Linux ends it with the thread that started it.
    """

    kafka: ProxiedKafka
    proxy: TcpProxy
    supervisor: Supervisor
    starter: Executor

    @property
    def direct(self) -> str:
        """Bootstrap servers of clients that meet no proxy."""
        return self.kafka.bootstrap_servers

    @property
    def proxied(self) -> str:
        """Bootstrap servers of clients whose every byte goes through the proxy."""
        return f"127.0.0.1:{self.proxy.port}"

    def start(self) -> None:
        """Start it, or see that it answers."""
        self.starter.submit(self.supervisor.start, self.kafka).result()

    def pause(self) -> None:
        """Stop its process without ending it: connections stay, nothing is answered."""
        self._process().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process().send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end, without waiting until it has."""
        self._process().terminate()

    def stop(self) -> None:
        """End it in good order."""
        self.supervisor.stop(self.kafka)

    def kill(self) -> None:
        """End it at once, with whatever it had not written."""
        process = self._process()
        process.kill()
        psutil.wait_procs([process], 30)
        self.supervisor.stop(self.kafka)

    def lose(self, topic: str) -> None:
        """Delete a topic's data from its disk; it must not run. The topic itself stays, under its id."""
        partitions = list((self.kafka.directory / "data").glob(f"{topic}-*"))
        assert partitions, f"no data of {topic} in {self.kafka.directory}"
        for partition in partitions:
            shutil.rmtree(partition)

    def _process(self) -> psutil.Process:
        pid = self.supervisor.status(self.kafka).pid
        assert pid is not None, "the broker does not run"
        return psutil.Process(pid)


@contextmanager
def fault_broker(directory: Path, artifacts: JavaArtifacts, **settings: str) -> Iterator[FaultBroker]:
    """A broker for as long as the block runs; ``settings`` are server properties, with ``_`` for ``.``."""
    port, controller_port, proxied_port, proxy_port = free_ports(4)
    kafka = ProxiedKafka(
        directory / "kafka",
        port,
        controller_port,
        artifacts,
        heap_mebibytes=384,
        proxied_port=proxied_port,
        proxy_port=proxy_port,
        settings={key.replace("_", "."): value for key, value in settings.items()},
    )
    supervisor = Supervisor(directory / "run", directory / "logs", until_parent_ends=True)
    with TcpProxy(proxy_port, proxied_port).running() as proxy, ThreadPoolExecutor(1) as starter:
        broker = FaultBroker(kafka, proxy, supervisor, starter)
        broker.start()
        try:
            yield broker
        finally:
            proxy.set(OPEN)
            if supervisor.status(kafka).pid is not None:
                broker.resume()
            supervisor.stop(kafka)
