import ipaddress
import urllib.request

import psutil
from confluent_kafka.admin import AdminClient

from k2_cli.kafka_process import LocalKafka
from k2_cli.process_supervision import Supervisor
from k2_cli.registry_process import LocalRegistry


def test_the_broker_answers_and_makes_no_topic_unasked(kafka: LocalKafka) -> None:
    metadata = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics("never.made", timeout=10)
    assert metadata.topics["never.made"].error is not None


def test_the_registry_answers_in_confluents_way(registry: LocalRegistry) -> None:
    with urllib.request.urlopen(f"{registry.url}/subjects", timeout=10) as response:
        assert response.read() == b"[]"


def test_nothing_listens_beyond_loopback(kafka: LocalKafka, registry: LocalRegistry, supervisor: Supervisor) -> None:
    for service in (kafka, registry):
        process = psutil.Process(supervisor.status(service).pid)
        listening = [each.laddr.ip for each in process.net_connections() if each.status == psutil.CONN_LISTEN]
        assert listening
        assert all(ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback for address in listening), (
            service.name,
            listening,
        )
