"""A stack with a real Dagster daemon and a broker of its own, whose processes can be killed one by one."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil
from faulted_feed import NAME, FaultedFeed
from free_ports import free_ports
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_assets.records.run_process import RunProcess
from k2_assets.records.run_tags import PROCESS_TAG
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Supervisor
from k2_market.errors import K2Error
from k2_market.kinds.trades import TRADES
from k2_platform.catch_up import left_to_do, local_instance
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.kafka.topics import KafkaTopics

PATIENCE_SECONDS = 600
"""For what takes half a minute on an idle machine."""

KAFKA = "kafka"
TABLES = ("raw_trades", "trades", "ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_30m", "ohlcv_1h", "ohlcv_1d")
UNDER_WAY = {"REQUESTED", "CANCELING", "FAILING"}

_LAUNCH_BACKFILL = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
_BACKFILL = (
    "query Backfill($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)
_RE_EXECUTE = """
mutation ReExecute($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_TERMINATE = "mutation End($id: String!) { terminateRun(runId: $id) { __typename } }"

_Found = TypeVar("_Found")
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class DaemonStack:
    """Broker, code server, webserver and daemon, and a feed that they take in.

    Attributes:
        faulted: The feed, with its account of what was sent.
        stack: The services; ``up`` starts what does not run.
    """

    faulted: FaultedFeed
    stack: LocalStack

    def up(self, **environment: str) -> None:
        """Start what does not run; what is started has some more variables in its environment."""
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            self.stack.up(report=lambda line: None)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def kill(self, *names: str) -> None:
        """Kill services with SIGKILL; what they have started goes on."""
        for status in self.stack.only(names).status():
            if status.name in names:
                assert status.pid is not None, f"{status.name} does not run"
                os.kill(status.pid, signal.SIGKILL)
                psutil.wait_procs([each for each in [_process(status.pid)] if each is not None], timeout=10)

    def stop(self, name: str) -> None:
        """Stop a service as `k2 down` does."""
        (service,) = [each for each in self.stack.services if each.name == name]
        self.stack.supervisor.stop(service)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's records."""
        with local_instance(self.faulted.settings) as instance:
            yield instance

    def runs(self, *statuses: dg.DagsterRunStatus) -> Sequence[dg.DagsterRun]:
        """All runs, or those of some statuses, the latest first."""
        with self.instance() as instance:
            return instance.get_runs(dg.RunsFilter(statuses=list(statuses)) if statuses else None)

    def wait_until_done(self) -> None:
        """Wait until the daemon has left nothing to do: no lag, no day unbuilt, no run under way, no slot held."""
        feed, settings = self.faulted.feed, self.faulted.settings
        topics = KafkaTopics(settings.bootstrap_servers)
        iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
        with self.instance() as instance:

            def is_done() -> bool:
                try:
                    left = left_to_do(feed, TRADES, topics, iceberg, instance)
                except K2Error:
                    return False  # a conflict with the daemon's own writing, on a machine with much to do
                return not left and not any(_slots_taken(instance))

            eventually(is_done, f"the end of what is pending; {left_to_do(feed, TRADES, topics, iceberg, instance)!r}")

    def process_of(self, run: dg.DagsterRun) -> psutil.Process | None:
        """The process that carries out a run, once the run has signed it."""
        with self.instance() as instance:
            found = instance.get_run_by_id(run.run_id)
        tag = None if found is None else found.tags.get(PROCESS_TAG)
        return None if tag is None else _process(RunProcess.parse(tag).pid)

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data that Dagster's GraphQL gives."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.faulted.settings.dagster_port}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with _open(request, timeout=120) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def launch_backfill(self, days: Sequence[date]) -> str:
        """Ask for all tables of some days, as the UI does; the backfill's id."""
        launched = self.graphql(
            _LAUNCH_BACKFILL,
            params={
                "tags": [],
                "assetSelection": [{"path": [NAME, table]} for table in TABLES],
                "partitionNames": [day.isoformat() for day in days],
                "fromFailure": False,
            },
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def end_of_backfill(self, backfill_id: str) -> str:
        """The status in which a backfill ends."""

        def ended() -> str:
            status = str(self.graphql(_BACKFILL, id=backfill_id)["partitionBackfillOrError"]["status"])
            return "" if status in UNDER_WAY else status

        return eventually(ended, f"the end of backfill {backfill_id}")

    def re_execute(self, run: dg.DagsterRun) -> str:
        """Carry out a run's steps again, as the UI does; the new run's id."""
        params = {"parentRunId": run.run_id, "strategy": "ALL_STEPS"}
        launched = self.graphql(_RE_EXECUTE, params=params)["launchRunReexecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def cancel(self, run: dg.DagsterRun) -> None:
        """Ask a run to end, as the UI does."""
        self.graphql(_TERMINATE, id=run.run_id)

    def failed_tick(self, sensor: str, after: float) -> str:
        """What a sensor's latest failed tick after a moment said."""
        with self.instance() as instance:
            (state,) = [each for each in instance.all_instigator_state() if each.instigator_name == sensor]

            def error() -> str:
                ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after)
                errors = [tick.error.to_string() for tick in ticks if tick.error is not None]
                return errors[0] if errors else ""

            return eventually(error, f"a failed tick of {sensor}")


@contextmanager
def daemon_stack(directory: Path, java_artifacts: JavaArtifacts, registry_url: str) -> Iterator[DaemonStack]:
    """A stack that runs for as long as the block does."""
    java_artifacts.kafka_classpath()
    names = ("kafka_port", "kafka_controller_port", "dagster_port", "code_server_port", "metrics_port")
    ports: Mapping[str, int] = dict(zip(names, free_ports(len(names)), strict=True))
    bootstrap = f"127.0.0.1:{ports['kafka_port']}"
    home = directory / "k2"
    home.mkdir()
    (home / "java").symlink_to(java_artifacts.directory)
    supervisor = Supervisor(home / "run", home / "logs", until_parent_ends=True)
    broker = LocalKafka(home / "kafka", ports["kafka_port"], ports["kafka_controller_port"], java_artifacts, 512)
    supervisor.start(broker)
    stack = None
    try:
        declared = FaultedFeed.declared(directory, bootstrap, registry_url)
        faulted = declared.with_settings(kafka_bootstrap=None, **ports)
        services = (broker, *(each for each in LocalStack.of(faulted.settings).services if each.name != KAFKA))
        stack = LocalStack(home, services, supervisor)
        stack.up(report=lambda line: None)
        yield DaemonStack(faulted, stack)
    finally:
        supervisor.stop(broker) if stack is None else stack.down(report=lambda line: None)


def eventually(look: Callable[[], _Found], what: str, every_seconds: float = 0.5) -> _Found:
    """What a look finds, once it finds something; fails after ``PATIENCE_SECONDS``."""

    def give_up(_state: object) -> _Found:
        raise AssertionError(f"still waiting after {PATIENCE_SECONDS} s for {what}")

    waiting = Retrying(
        retry=retry_if_result(lambda found: not found),
        wait=wait_fixed(every_seconds),
        stop=stop_after_delay(PATIENCE_SECONDS),
        retry_error_callback=give_up,
    )
    return waiting(look)


def _slots_taken(instance: dg.DagsterInstance) -> Iterator[int]:
    storage = instance.event_log_storage
    for pool in storage.get_concurrency_keys():
        yield storage.get_concurrency_info(pool).active_slot_count


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def now() -> float:
    """Unix seconds."""
    return time.time()
