import ipaddress
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from free_ports import free_ports

from k2_cli.stack.dagster_processes import CodeServer, Daemon, Webserver
from k2_cli.stack.health_probes import graphql
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import ServiceError, Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_platform.dagster_storage import DagsterHome
from k2_resources.settings import Settings

DEFINITIONS = """
import dagster as dg

@dg.asset(pool="tiny_raw")
def ticks(): ...

defs = dg.Definitions([ticks])
"""
SCHEMA = {"type": "record", "name": "Tick", "fields": [{"name": "price", "type": "long"}]}


def test_the_broker_answers_and_makes_no_topic_unasked(kafka: LocalKafka) -> None:
    metadata = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics("never.made", timeout=10)
    assert metadata.topics["never.made"].error is not None


def test_the_registry_answers_in_confluents_way(registry: LocalRegistry) -> None:
    assert isinstance(_registry_call(registry.url, "subjects"), list)


def test_nothing_listens_beyond_loopback(kafka: LocalKafka, registry: LocalRegistry, supervisor: Supervisor) -> None:
    for service in (kafka, registry):
        assert _listens_on_loopback_alone(supervisor.status(service).pid), service.name


@pytest.mark.slow
class TestTheK2Command:
    """``k2 up`` and ``k2 down`` with a home of their own, as a person runs them."""

    @pytest.fixture
    def settings(self, tmp_path: Path, java_artifacts: JavaArtifacts) -> Iterator[Settings]:
        names = ("kafka", "kafka_controller", "registry", "dagster", "code_server", "metrics")
        ports = {f"{name}_port": port for name, port in zip(names, free_ports(len(names)), strict=True)}
        settings = Settings(home=tmp_path / "home", **ports)
        java_artifacts.kafka_classpath(), java_artifacts.registry_directory()
        settings.home.mkdir()
        (settings.home / "java").symlink_to(java_artifacts.directory)
        yield settings
        _k2(settings, "down")

    def test_starts_and_stops_the_stack_and_its_data_survives(self, settings: Settings) -> None:
        started = _k2(settings, "up", "--only", "kafka,registry")
        assert started.returncode == 0, started.stderr
        assert _states(settings)["kafka"] == _states(settings)["registry"] == "running"
        _make_topic_with_a_message(settings.bootstrap_servers)
        schema = {"schema": json.dumps(SCHEMA)}
        schema_id = _registry_call(settings.schema_registry_url, "subjects/ticks-value/versions", schema)["id"]

        again = _k2(settings, "up", "--only", "kafka,registry")
        assert (again.returncode, "All of it runs already." in again.stderr) == (0, True)

        assert _k2(settings, "down").returncode == 0
        assert set(_states(settings).values()) == {"stopped"}
        assert "Nothing" in _k2(settings, "down").stderr

        assert _k2(settings, "up", "--only", "kafka,registry").returncode == 0
        assert _first_message(settings.bootstrap_servers) == b"36.45"
        stored = _registry_call(settings.schema_registry_url, f"schemas/ids/{schema_id}")["schema"]
        assert json.loads(stored) == SCHEMA

    def test_down_stops_what_a_setting_points_elsewhere_for_by_now(self, settings: Settings) -> None:
        assert _k2(settings, "up", "--only", "registry").returncode == 0
        elsewhere = settings.model_copy(update={"registry_url": "http://127.0.0.1:1"})
        assert _states(elsewhere)["registry"] == "running"
        stopped = _k2(elsewhere, "down")
        assert (stopped.returncode, "registry: stopped" in stopped.stderr) == (0, True)
        assert _states(settings)["registry"] == "stopped"


class TestDagsterProcesses:
    """Code server, webserver and daemon on a home of their own, with definitions of their own."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> DagsterHome:
        (tmp_path / "tiny_definitions.py").write_text(DEFINITIONS, encoding="utf-8")
        (tmp_path / "broken_definitions.py").write_text(
            "raise ImportError('no module named ticks')\n", encoding="utf-8"
        )
        return DagsterHome(tmp_path / "dagster", free_ports(1)[0], {"PYTHONPATH": str(tmp_path)})

    @pytest.fixture
    def supervisor(self, tmp_path: Path) -> Supervisor:
        return Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)

    def test_serve_our_definitions_with_the_daemons_alive_and_a_slot_for_each_pool(
        self, home: DagsterHome, supervisor: Supervisor
    ) -> None:
        webserver = Webserver(home, free_ports(1)[0])
        with (
            supervisor.running(CodeServer(home, ("tiny_raw", "tiny_build"), "tiny_definitions")) as code_server,
            supervisor.running(webserver) as ui,
            supervisor.running(Daemon(home, webserver)),
        ):
            answer = graphql(
                f"{webserver.url}/graphql",
                "{instance{concurrencyLimits{concurrencyKey slotCount}} assetNodes{assetKey{path}}}",
            )
            assert answer is not None
            limits = {each["concurrencyKey"]: each["slotCount"] for each in answer["instance"]["concurrencyLimits"]}
            assert limits == {"tiny_raw": 1, "tiny_build": 1}
            assert answer["assetNodes"] == [{"assetKey": {"path": ["ticks"]}}]
            assert _listens_on_loopback_alone(code_server.pid)
            assert _listens_on_loopback_alone(ui.pid)

    def test_definitions_that_do_not_load_are_reported_with_the_reason(
        self, home: DagsterHome, supervisor: Supervisor
    ) -> None:
        with pytest.raises(ServiceError, match="no module named ticks"):
            supervisor.start(CodeServer(home, (), "broken_definitions"))


def _k2(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("k2")), *arguments]
    environment = os.environ | settings.environment_variables()
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _states(settings: Settings) -> dict[str, str]:
    services = json.loads(_k2(settings, "status", "--json").stdout)["services"]
    return {service["name"]: service["state"] for service in services}


def _listens_on_loopback_alone(pid: int | None) -> bool:
    process = psutil.Process(pid)
    connections = [each for one in (process, *process.children(recursive=True)) for each in one.net_connections()]
    listening = [each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == psutil.CONN_LISTEN]
    return bool(listening) and all(ipaddress.ip_address(address).is_loopback for address in listening)


def _registry_call(url: str, path: str, body: dict[str, str] | None = None) -> Any:
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/{path}", data, headers), timeout=10) as response:
        return json.load(response)


def _make_topic_with_a_message(bootstrap_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic("ticks", 1)])["ticks"].result(30)
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce("ticks", b"36.45")
    assert producer.flush(30) == 0


def _first_message(bootstrap_servers: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition("ticks", 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    return None if message is None else message.value()
