"""Iceberg's Kafka Connect sink as one standalone worker, configured kindly, and measured until all is visible."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from benchmarks.bench_stack import BenchStack, free_ports

ICEBERG_VERSIONS = ("1.11.0", "1.12.0")
_HERE = Path(__file__).parent
_JAVA_MAJOR = 17
"""Hadoop's classes, which the sink needs, do not run on the newest ("getSubject is not supported")."""
_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.25
_TASKS = 2


class SinkUnavailable(Exception):
    """The sink can't be run here; says what is missing."""


@dataclass(frozen=True)
class SinkRun:
    """What a run of the sink took.

    Attributes:
        commits: When each commit was made (seconds since 1970), and how many rows the table had by then.
        started: When its process was started (seconds since 1970).
        cpu_seconds: Of its process until all rows were visible.
        peak_rss_bytes: The most memory that it held.
    """

    commits: list[list[float]]
    started: float
    cpu_seconds: float
    peak_rss_bytes: int


def libraries(iceberg_version: str, directory: Path) -> Path:
    """The sink's archives, fetched by Maven as ``pom.xml`` names them.

    Raises:
        SinkUnavailable: There is no Maven, or it can't fetch them.
    """
    target = directory / f"sink-{iceberg_version}"
    if (target / ".complete").exists():
        return target
    if shutil.which("mvn") is None:
        raise SinkUnavailable("Maven (mvn) is needed once, to fetch the sink's archives")
    command = ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += [f"-Diceberg.version={iceberg_version}", f"-DoutputDirectory={target}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SinkUnavailable(f"Maven can't fetch the sink {iceberg_version}:\n{done.stdout[-2000:]}")
    (target / ".complete").touch()
    return target


def java() -> str:
    """A Java 17 runtime: of ``JAVA_17_HOME``, or the one on the path.

    Raises:
        SinkUnavailable: Neither is one.
    """
    home = os.environ.get("JAVA_17_HOME")
    program = f"{home}/bin/java" if home else shutil.which("java")
    if program is None:
        raise SinkUnavailable("Java 17 is needed for the sink: set JAVA_17_HOME")
    said = subprocess.run([program, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) != _JAVA_MAJOR:
        raise SinkUnavailable(f"the sink needs Java 17, {program} is another: set JAVA_17_HOME")
    return program


def run_sink(stack: BenchStack, topic: str, messages: int, archives: Path, directory: Path) -> SinkRun:
    """Let the sink take a topic of so many messages, and end it when all are visible.

    Raises:
        SinkUnavailable: It can't be run here.
        RuntimeError: It did not come to the end; says what its log ends with.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    catalog = SqlCatalog("iceberg", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}/warehouse")
    catalog.create_namespace("sink")  # with the tables of the catalog: two tasks would race to make them
    control = f"control-{directory.name}"
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    admin.create_topics([NewTopic(control, 1, 1)])[control].result()
    _write_settings(stack, topic, control, directory)
    command = [java(), "-Xmx2g", f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}", "-cp", f"{archives}/*"]
    command += ["org.apache.kafka.connect.cli.ConnectStandalone", "worker.properties", "sink.properties"]
    with (directory / "sink.log").open("w") as log:
        started = time.time()
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        try:
            return _await(catalog, psutil.Process(process.pid), started, messages, directory)
        finally:
            process.kill()
            process.wait()


def _await(catalog: SqlCatalog, process: psutil.Process, started: float, messages: int, directory: Path) -> SinkRun:
    def all_visible() -> SinkRun | None:
        if process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"the sink ended before all {messages} messages were visible; {_end_of_log(directory)}")
        commits = _commits(catalog)
        if not commits or commits[-1][1] < messages:
            return None
        times = process.cpu_times()
        return SinkRun(commits, started, times.user + times.system, _peak_rss_bytes(process.pid))

    waiting = Retrying(
        retry=retry_if_result(lambda run: run is None),
        wait=wait_fixed(_POLL_SECONDS),
        stop=stop_after_delay(_PATIENCE_SECONDS),
    )
    try:
        found = waiting(all_visible)
    except RetryError as error:
        raise RuntimeError(
            f"the sink has not come to the end of {messages} messages in {_PATIENCE_SECONDS:.0f} s; "
            f"{_end_of_log(directory)}"
        ) from error
    assert found is not None
    return found


def _end_of_log(directory: Path) -> str:
    log = (directory / "sink.log").read_text(encoding="utf-8", errors="replace")
    return f"its log ends with\n{log[-3000:]}"


def _commits(catalog: SqlCatalog) -> list[list[float]]:
    try:
        table = catalog.load_table("sink.trades")
    except NoSuchTableError:
        return []
    return [
        [each.timestamp_ms / 1000, int(each.summary["total-records"])]
        for each in table.snapshots()
        if each.summary and each.summary["total-records"]
    ]


def _peak_rss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _write_settings(stack: BenchStack, topic: str, control: str, directory: Path) -> None:
    converter = "io.apicurio.registry.utils.converter.AvroConverter"
    worker: dict[str, Any] = {
        "bootstrap.servers": stack.bootstrap_servers,
        "listeners": f"http://127.0.0.1:{free_ports(1)[0]}",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": converter,
        "value.converter.apicurio.registry.url": f"http://127.0.0.1:{stack.registry_port}/apis/registry/v2",
        "value.converter.apicurio.registry.as-confluent": "true",
        "value.converter.apicurio.registry.use-id": "contentId",
        "offset.storage.file.filename": directory / "offsets",
        "offset.flush.interval.ms": 1000,
        "consumer.max.poll.records": 20000,
        "consumer.fetch.min.bytes": 500000,
    }
    sink: dict[str, Any] = {
        "name": f"sink-{directory.name}",
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": _TASKS,
        "topics": topic,
        "iceberg.catalog.type": "jdbc",
        "iceberg.catalog.uri": f"jdbc:sqlite:{directory}/catalog.db",
        "iceberg.catalog.jdbc.schema-version": "V1",
        "iceberg.catalog.warehouse": f"file://{directory}/warehouse",
        "iceberg.tables": "sink.trades",
        "iceberg.tables.auto-create-enabled": "true",
        "iceberg.tables.default-partition-by": "exchange",
        "iceberg.control.topic": control,
        "iceberg.control.commit.interval-ms": 5000,
        "iceberg.kafka.auto.offset.reset": "earliest",
        "consumer.override.auto.offset.reset": "earliest",
    }
    for name, settings in (("worker", worker), ("sink", sink)):
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        (directory / f"{name}.properties").write_text(lines, encoding="utf-8")
