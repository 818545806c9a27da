"""Requests of pages of other sites, sent without end to every port of a stack that ingests: it takes no notice."""

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from checker import assert_nothing_lost_or_doubled
from daemon_stack import DaemonStack, daemon_stack
from fault_tally import FaultTally
from faulted_feed import DAY, NAME
from forged_requests import (
    Forged,
    first_bytes_of_a_browser,
    mutations_of_dagster,
    of_a_page,
    requests_of_the_registry,
    send,
)

from k2_assets.names import ingest_job_name, ingest_op_name
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.registry_process import LocalRegistry
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.schemas.avro import subject_of
from k2_resources.kafka.topics import KafkaTopics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]

BATCHES = 3
POOLS = "{instance{concurrencyLimits{concurrencyKey slotCount}}}"
FORGED_RUNS = '{runsOrError(filter:{tags:[{key:"forged",value:"1"}]}){... on Runs{results{runId}}}}'


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts, registry: LocalRegistry
) -> Iterator[DaemonStack]:
    with daemon_stack(tmp_path_factory.mktemp("forged"), java_artifacts, registry.url) as started:
        yield started


def mutations(daemon: DaemonStack) -> list[str]:
    """What would harm most: ingestion switched off, records wiped, a run told of a loss that never was."""
    topic_id = KafkaTopics(daemon.faulted.settings.bootstrap_servers).topic_id(daemon.faulted.feed.topics.trades)
    claims = {"topic_id": topic_id, "truncated": {"0": [[0, 1]]}, "lost": {"1": [[0, 1]]}}
    config = json.dumps(json.dumps({"ops": {ingest_op_name(daemon.faulted.feed.name, TRADES): {"config": claims}}}))
    tags = f'[{{key:"dagster/partition",value:"{DAY}"}},{{key:"forged",value:"1"}}]'
    job = ingest_job_name(daemon.faulted.feed.name, TRADES)
    selector = f'{{repositoryLocationName:"k2",repositoryName:"__repository__",jobName:"{job}"}}'
    launch = f'selector:{selector},mode:"default",runConfigData:{config},executionMetadata:{{tags:{tags}}}'
    return [
        f'mutation{{setConcurrencyLimit(concurrencyKey:"{NAME}_raw",limit:0)}}',
        f'mutation{{wipeAssets(assetPartitionRanges:[{{assetKey:{{path:["{NAME}","raw_trades"]}}}}]){{__typename}}}}',
        f"mutation{{launchRun(executionParams:{{{launch}}}){{__typename}}}}",
    ]


@dataclass
class Forger:
    """Sends forged requests from a thread of its own.

    Attributes:
        web: Requests of HTTP, and the port of each.
        others: Ports that do not speak it.
        sent: How many were sent.
        answered: Those that were answered as if nothing were wrong with them.
    """

    web: list[tuple[int, Forged]]
    others: list[int]
    sent: int = 0
    answered: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For as long as the block runs."""
        threads = [threading.Thread(target=work) for work in (self._ask, self._disturb)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        for port, forged in itertools.cycle(self.web):
            if self._over.is_set():
                return
            answer = send(port, forged)
            self.sent += 1
            if answer.status < 400:
                self.answered.append(f"{port} {forged}: {answer}")

    def _disturb(self) -> None:
        contents = list(first_bytes_of_a_browser(b"k2" * 100).values())
        for port, content in itertools.cycle(itertools.product(self.others, contents)):
            if self._over.is_set():
                return
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
            self.sent += 1


def forger_of(daemon: DaemonStack) -> Forger:
    settings, feed = daemon.faulted.settings, daemon.faulted.feed
    registry_port = urlsplit(settings.schema_registry_url).port
    assert registry_port is not None
    reports = [f"/report_asset_check/{NAME}/raw_trades?check_name=ledger_verified&passed=true&partition={DAY}"]
    reports += [f"/report_asset_materialization/{NAME}/{table}?partition={DAY}" for table in ("raw_trades", "trades")]
    of_dagster = [each for mutation in mutations(daemon) for each in mutations_of_dagster(mutation)]
    of_dagster += [each for path in reports for each in of_a_page(path, "", "application/json")]
    of_registry = requests_of_the_registry(subject_of(feed.topics.trades))
    web = [*((settings.dagster_port, each) for each in of_dagster), *((registry_port, each) for each in of_registry)]
    others = [settings.kafka_port, settings.kafka_controller_port, settings.code_server_port]
    return Forger(web, others)


def test_ingestion_goes_on_under_forged_requests_and_nothing_is_lost_doubled_or_halted(
    daemon: DaemonStack, tally: FaultTally
) -> None:
    faulted = daemon.faulted
    faulted.send(300, DAY, 1)
    daemon.wait_until_done()
    forger = forger_of(daemon)
    with forger.at_work():
        for seed in range(2, 2 + BATCHES):
            before = len(daemon.runs())
            faulted.send(300, DAY, seed)
            daemon.wait_until_done()
            assert len(daemon.runs()) > before
    assert forger.answered == []
    assert forger.sent > len(forger.web)
    ledger = faulted.table().ledger()
    assert (ledger.lost, ledger.truncated) == (RangeSet(), RangeSet())
    limits = daemon.graphql(POOLS)["instance"]["concurrencyLimits"]
    assert {each["slotCount"] for each in limits} == {1}
    assert daemon.graphql(FORGED_RUNS)["runsOrError"]["results"] == []
    assert_nothing_lost_or_doubled(faulted.settings, NAME, faulted.acked, tally, days=faulted.days())
    tally.injected("W1")
