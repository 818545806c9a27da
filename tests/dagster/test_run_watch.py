"""Runs that nothing carries out any more are ended, and what they held goes on; runs that may live are left alone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.snap import snapshot_from_execution_plan
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from repository import REPOSITORY

from k2_assets.names import ingest_job_name
from k2_assets.records.run_process import RunProcess
from k2_assets.records.run_records import ingests_in_flight
from k2_assets.records.run_tags import ATTEMPT_TAG, PROCESS_TAG
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans.ingest_plan import FIRST_BACKOFF
from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS
from k2_platform.dagster_storage import initialise
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.settings import Settings
from k2_sensors.kafka_sensor import next_ingest
from k2_sensors.run_watch import UNSIGNED_FOR, end_dead_runs

START_SECONDS = 180
JOB_ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(
        InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file="definitions.py"), location_name="k2"),
        "__repository__",
    ),
    "asx_ingest",
)
STATUS = dg.DagsterRunStatus


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with the settings that ship, its pools as they are before the daemon starts."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copyfile(REPOSITORY / "k2_platform" / "dagster.yaml", home / "dagster.yaml")
    initialise(home, ["asx_raw"])
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


@pytest.fixture
def killed() -> psutil.Process:
    """A process that ran and was killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        process = psutil.Process(started.pid)
        process.create_time()
        started.kill()
    return process


def run_in(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> str:
    return create_run_for_test(instance, "asx_ingest", status=status, tags=tags, remote_job_origin=JOB_ORIGIN).run_id


def begun(instance: dg.DagsterInstance, pid: int, server: str | None = "127.0.0.1") -> str:
    """A run that began in a process and did not come to its first step."""
    tags = {} if server is None else {GRPC_INFO_TAG: json.dumps({"host": server, "port": 4266})}
    run_id = run_in(instance, STATUS.STARTING, **tags)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "asx_ingest", pid=pid)
    instance.report_dagster_event(event, run_id)
    return run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


class TestSignedRuns:
    def test_one_whose_process_was_killed_is_ended_at_once(self, instance: dg.DagsterInstance) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            signature = RunProcess.of(psutil.Process(process.pid))
            run_id = run_in(instance, STATUS.STARTED, **{PROCESS_TAG: str(signature)})
            assert end_dead_runs(instance) == []
            process.kill()
        assert end_dead_runs(instance) == [run_id]
        assert status_of(instance, run_id) is STATUS.FAILURE
        assert end_dead_runs(instance) == []

    def test_one_carried_out_again_is_not_judged_by_the_process_of_the_first_time(
        self, instance: dg.DagsterInstance
    ) -> None:
        first = str(replace(RunProcess.own(), started=0))
        parent = run_in(instance, STATUS.SUCCESS, **{PROCESS_TAG: first})
        again = create_run_for_test(
            instance,
            "asx_ingest",
            status=STATUS.STARTED,
            tags={PROCESS_TAG: first},
            parent_run_id=parent,
            root_run_id=parent,
            remote_job_origin=JOB_ORIGIN,
        ).run_id
        assert end_dead_runs(instance) == []
        instance.add_run_tags(again, {PROCESS_TAG: str(replace(RunProcess.own(), started=1))})
        assert end_dead_runs(instance) == [again]

    def test_a_process_that_nobody_has_waited_for_counts_as_gone(self, instance: dg.DagsterInstance) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            child = psutil.Process(process.pid)
            signature = RunProcess.of(child)
            process.kill()
            while child.status() != psutil.STATUS_ZOMBIE:
                pass
            assert signature.is_gone()

    def test_one_that_was_to_be_canceled_ends_as_canceled(self, instance: dg.DagsterInstance) -> None:
        gone = replace(RunProcess.own(), started=0)
        run_id = run_in(instance, STATUS.CANCELING, **{PROCESS_TAG: str(gone)})
        assert end_dead_runs(instance) == [run_id]
        assert status_of(instance, run_id) is STATUS.CANCELED

    def test_one_on_another_host_is_never_judged(self, instance: dg.DagsterInstance) -> None:
        run_in(instance, STATUS.STARTED, **{PROCESS_TAG: str(RunProcess("another-host", "b", 2**22, 0))})
        assert end_dead_runs(instance, later(1e6)) == []

    def test_one_from_before_the_machine_was_started_anew_is_ended(self, instance: dg.DagsterInstance) -> None:
        before = replace(RunProcess.own(), boot="another")
        run_id = run_in(instance, STATUS.STARTED, **{PROCESS_TAG: str(before)})
        assert end_dead_runs(instance) == [run_id]

    @pytest.mark.parametrize("step", [3600, -3600])
    def test_a_clock_that_is_set_ends_no_run_that_lives(self, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
        signature = RunProcess.own()
        created, booted = psutil.Process().create_time(), psutil.boot_time()
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: created + step)
        monkeypatch.setattr(psutil, "boot_time", lambda: booted + step)
        assert not signature.is_gone()
        assert RunProcess.own() == signature

    def test_a_signature_reads_back(self) -> None:
        assert RunProcess.parse(str(RunProcess.own())) == RunProcess.own()


class TestUnsignedRuns:
    @pytest.mark.parametrize("status", [STATUS.NOT_STARTED, STATUS.STARTING])
    def test_one_that_nobody_starts_is_ended_after_its_time(
        self, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
    ) -> None:
        run_id = run_in(instance, status)
        assert end_dead_runs(instance, later(START_SECONDS - 5)) == []
        assert end_dead_runs(instance, later(START_SECONDS + 5)) == [run_id]
        assert status_of(instance, run_id) is STATUS.FAILURE

    def test_one_that_waits_in_the_queue_is_left_to_the_queue(self, instance: dg.DagsterInstance) -> None:
        run_in(instance, STATUS.QUEUED)
        assert end_dead_runs(instance, later(1e6)) == []

    def test_one_canceled_before_it_began_is_ended_after_its_time(self, instance: dg.DagsterInstance) -> None:
        run_id = run_in(instance, STATUS.CANCELING)
        assert end_dead_runs(instance, later(START_SECONDS + 5)) == [run_id]
        assert status_of(instance, run_id) is STATUS.CANCELED

    @pytest.mark.parametrize("server", ["127.0.0.1", "localhost", None])
    def test_one_whose_process_was_killed_before_its_first_step_is_ended_soon(
        self, instance: dg.DagsterInstance, killed: psutil.Process, server: str | None
    ) -> None:
        run_id = begun(instance, killed.pid, server)
        assert end_dead_runs(instance) == []
        assert end_dead_runs(instance, later(UNSIGNED_FOR.total_seconds() + 5)) == [run_id]

    def test_one_that_has_no_signing_step_and_lives_is_left_alone(self, instance: dg.DagsterInstance) -> None:
        begun(instance, psutil.Process().pid)
        assert end_dead_runs(instance, later(1e6)) == []

    def test_one_that_a_server_on_another_host_started_is_never_judged(
        self, instance: dg.DagsterInstance, killed: psutil.Process
    ) -> None:
        begun(instance, killed.pid, "code-server")
        assert end_dead_runs(instance, later(1e6)) == []

    def test_a_later_process_with_the_same_number_is_not_taken_for_it(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = begun(instance, psutil.Process().pid)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: later(30).timestamp())
        assert end_dead_runs(instance, later(100)) == [run_id]


class ScriptedTopics(KafkaTopics):
    """A topic of ten messages."""

    def __init__(self) -> None:
        pass

    def state(self, topic: str) -> TopicState | None:
        return TopicState(topic, "T1", (PartitionState(0, 0, 10, 10),))

    def first_timestamps(self, topic: TopicState, ranges: Any) -> dict[int, datetime]:
        return {0: datetime(2014, 3, 10, 1, tzinfo=UTC)}


@pytest.fixture
def feed() -> Feed:
    return load_feeds(Settings().feed_directories)["asx"]


@pytest.fixture
def iceberg(tmp_path: Path) -> IcebergCatalogResource:
    settings = Settings(home=tmp_path / "k2")
    return IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)


@pytest.mark.parametrize("status", [STATUS.NOT_STARTED, STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
def test_the_ranges_of_a_run_that_is_ended_are_planned_again_after_their_back_off(
    instance: dg.DagsterInstance, feed: Feed, iceberg: IcebergCatalogResource, status: dg.DagsterRunStatus
) -> None:
    topics = ScriptedTopics()
    first = next_ingest(feed, TRADES, topics, iceberg, instance, datetime.now(UTC))
    assert isinstance(first, dg.RunRequest)
    tags = {**first.tags, PROCESS_TAG: str(replace(RunProcess.own(), started=0))}
    create_run_for_test(
        instance, ingest_job_name(feed.name, TRADES), run_config=first.run_config, status=status, tags=tags
    )
    assert isinstance(next_ingest(feed, TRADES, topics, iceberg, instance, datetime.now(UTC)), dg.SkipReason)

    assert len(end_dead_runs(instance)) == 1
    assert ingests_in_flight(instance, feed, TRADES) == []
    assert isinstance(next_ingest(feed, TRADES, topics, iceberg, instance, datetime.now(UTC)), dg.SkipReason)
    again = next_ingest(feed, TRADES, topics, iceberg, instance, datetime.now(UTC) + FIRST_BACKOFF)
    assert isinstance(again, dg.RunRequest)
    assert again.run_config == first.run_config
    assert again.tags[ATTEMPT_TAG] == "2"


def test_a_run_that_is_ended_leaves_its_pool_to_the_next(instance: dg.DagsterInstance) -> None:
    gone = replace(RunProcess.own(), started=0)
    dead = _pooled_run(instance, STATUS.STARTED, **{PROCESS_TAG: str(gone)})
    waiting = _pooled_run(instance, STATUS.QUEUED)
    assert _dequeued(instance) == []
    assert end_dead_runs(instance) == [dead]
    assert _dequeued(instance) == [waiting]


def _pooled_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> str:
    job = build_defs().resolve_job_def("asx_ingest")
    plan = create_execution_plan(job, tags={"dagster/partition": "2014-03-10"})
    return create_run_for_test(
        instance,
        "asx_ingest",
        status=status,
        tags=tags,
        job_snapshot=job.get_job_snapshot(),
        execution_plan_snapshot=snapshot_from_execution_plan(plan, job.get_job_snapshot_id()),
        remote_job_origin=JOB_ORIGIN,
        job_code_origin=None,
    ).run_id


def _dequeued(instance: dg.DagsterInstance) -> list[str]:
    """The runs that the daemon's queue would start now."""
    queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
    runs = queue._get_runs_to_dequeue(instance, instance.get_concurrency_config(), fixed_iteration_time=None)
    return [run.run_id for run in runs]


def test_the_settings_that_ship_bound_every_run_also_one_from_the_ui(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_start_timeout_seconds == START_SECONDS
    assert instance.run_monitoring_cancel_timeout_seconds == 60
    assert instance.run_monitoring_max_runtime_seconds == MAX_RUNTIME_SECONDS
