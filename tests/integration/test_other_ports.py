"""What a browser can send to ports that do not speak HTTP: Kafka, its controller, Dagster's code server."""

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from forged_requests import first_bytes_of_a_browser
from free_ports import free_ports

from k2_cli.stack.dagster_processes import CodeServer
from k2_cli.stack.health_probes import code_server_serves, kafka_answers
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_platform.dagster_storage import DagsterHome

KEPT = "never.deleted"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFINITIONS = "import dagster as dg\n\n@dg.asset\ndef ticks(): ...\n\ndefs = dg.Definitions([ticks])\n"


def delete_topic(topic: str) -> bytes:
    """A Kafka client's whole request to delete a topic (DeleteTopics, version 1)."""
    name = topic.encode()
    topics = struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", 30_000)
    body = struct.pack(">hhih", 20, 1, 7, 4) + b"page" + topics
    return struct.pack(">i", len(body)) + body


def heard(port: int, content: bytes) -> bytes:
    """All that a server answers to some bytes until it ends the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(OSError):  # it has hung up already
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65_536):
                answer += piece
    return answer


@pytest.fixture(scope="module")
def kept_topic(kafka: LocalKafka) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(KEPT, 1)])[KEPT].result(30)
    return admin


@pytest.fixture(scope="module")
def code_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("code")
    (directory / "tiny_definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    home = DagsterHome(directory / "dagster", free_ports(1)[0], {"PYTHONPATH": str(directory)})
    supervisor = Supervisor(directory / "run", directory / "logs", until_parent_ends=True)
    with supervisor.running(CodeServer(home, (), "tiny_definitions")):
        yield home.code_server_port


@pytest.mark.parametrize("how", first_bytes_of_a_browser(b""))
def test_kafka_carries_out_nothing_that_begins_as_a_browser_begins(
    kafka: LocalKafka, kept_topic: AdminClient, how: str
) -> None:
    content = first_bytes_of_a_browser(delete_topic(KEPT) * 20)[how]
    for port in (kafka.port, kafka.controller_port):
        assert heard(port, content) == b""
    assert KEPT in kept_topic.list_topics(timeout=10).topics
    assert kafka_answers(kafka.bootstrap_servers)


def test_what_the_page_hides_in_it_would_delete_the_topic(kafka: LocalKafka, kept_topic: AdminClient) -> None:
    """Last of these tests: the same bytes, without a browser's before them."""
    name = "deleted.by.the.same.bytes"
    kept_topic.create_topics([NewTopic(name, 1)])[name].result(30)
    assert heard(kafka.port, delete_topic(name))
    assert name not in kept_topic.list_topics(timeout=10).topics


@pytest.mark.parametrize("how", first_bytes_of_a_browser(b""))
def test_the_code_server_carries_out_nothing_that_begins_as_a_browser_begins(code_server: int, how: str) -> None:
    answer = heard(code_server, first_bytes_of_a_browser(PREFACE * 20)[how])
    assert not answer.startswith(b"HTTP/1.1 2")
    assert b"ticks" not in answer
    assert code_server_serves(code_server)
