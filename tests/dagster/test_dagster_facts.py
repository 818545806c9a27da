"""What the exporter reads from Dagster's storage, on a real instance on disk."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from k2_market.feeds.feed import Feed, load_feeds
from k2_platform.metrics_exporter import NotSetUp, platform_parts
from k2_resources.exporter import check_facts, materialization_facts
from k2_resources.exporter.automation_facts import AutomationFacts
from k2_resources.exporter.check_facts import CheckFacts
from k2_resources.exporter.materialization_facts import MaterializationFacts
from k2_resources.exporter.page import Part
from k2_resources.exporter.run_facts import RunFacts
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import METRICS, WORK_BUCKETS
from k2_resources.settings import Settings

REPOSITORY = RemoteRepositoryOrigin(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file="definitions.py"), location_name="k2"),
    "__repository__",
)
DAYS = dg.DailyPartitionsDefinition("2014-03-10", end_offset=1)
RAW = dg.AssetKey(["asx", "raw_trades"])
TRADES = dg.AssetKey(["asx", "trades"])
GAPS = dg.AssetCheckKey(RAW, "sequence_gaps")
OF_RAW = {"exchange": "ASX", "asset_class": "equities", "feed": "asx", "asset": "asx/raw_trades"}


@pytest.fixture(scope="module")
def feeds() -> list[Feed]:
    return list(load_feeds(Settings().feed_directories).values())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@dataclass
class Values:
    """The figures of one report, by name and some labels."""

    figures: Figures

    def __call__(self, name: str, **labels: str) -> Any:
        key = (name, METRICS[name].label_values(labels))
        counts = self.figures.counts()
        return {**self.figures.gauges(), **counts.counters, **counts.histograms}.get(key)


def report(part: Part) -> Values:
    figures = Figures()
    part.report(figures)
    return Values(figures)


def materialize(
    instance: dg.DagsterInstance,
    day: str = "2014-03-11",
    *,
    metadata: dict[str, float] | None = None,
    other_days: tuple[str, ...] = (),
    gaps: int = 0,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
    crash: bool = False,
) -> bool:
    @dg.asset(key=RAW, partitions_def=DAYS)
    def raw_trades(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        if crash:
            raise RuntimeError("crash")
        for each in other_days:
            context.log_event(dg.AssetMaterialization(RAW, partition=each, metadata=metadata))
        return dg.MaterializeResult(metadata=metadata)

    @dg.asset_check(asset=RAW, name="sequence_gaps", partitions_def=DAYS)
    def sequence_gaps() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=not gaps, severity=severity, metadata={"gaps": min(gaps, 1), "missing": gaps, "fingerprint": "x"}
        )

    return dg.materialize(
        [raw_trades, sequence_gaps], partition_key=day, instance=instance, raise_on_error=False
    ).success


def test_materializations_are_counted_by_day_and_followed(instance: dg.DagsterInstance, feeds: list[Feed]) -> None:
    part = MaterializationFacts(lambda: instance, feeds, [RAW, TRADES])
    assert report(part)("k2_asset_materializations_total", **OF_RAW) is None

    before = time.time()
    materialize(instance, "2014-03-11")
    materialize(instance, "2014-03-11")
    materialize(instance, "2014-03-12", other_days=("2014-03-13", "2014-03-14"))
    first = report(part)
    materialize(instance, "2014-03-17")
    second = report(part)

    assert first("k2_asset_materializations_total", **OF_RAW) == 5
    assert first("k2_asset_partitions_materialized", **OF_RAW) == 4
    assert second("k2_asset_materializations_total", **OF_RAW) == 6
    assert second("k2_asset_partitions_materialized", **OF_RAW) == 5
    newest = datetime(2014, 3, 17, tzinfo=UTC).timestamp()
    assert second("k2_asset_newest_trade_date_timestamp_seconds", **OF_RAW) == newest
    assert before <= second("k2_asset_last_materialized_timestamp_seconds", **OF_RAW) <= time.time()
    assert 0 <= second("k2_asset_freshness_seconds", **OF_RAW) <= time.time() - before
    assert second("k2_asset_materializations_total", **{**OF_RAW, "asset": "asx/trades"}) is None
    assert second("k2_asset_partitions_failed", **{**OF_RAW, "asset": "asx/trades"}) == 0


def test_a_restarted_exporter_gives_the_same_figures(instance: dg.DagsterInstance, feeds: list[Feed]) -> None:
    followed = [
        MaterializationFacts(lambda: instance, feeds, [RAW]),
        CheckFacts(lambda: instance, feeds, [GAPS]),
        RunFacts(lambda: instance),
    ]
    for day in ("2014-03-11", "2014-03-12", "2014-03-12"):
        materialize(instance, day, metadata={"commit_seconds": 0.3}, gaps=2 if day == "2014-03-12" else 0)
        for part in followed:
            report(part)
    restarted = [
        MaterializationFacts(lambda: instance, feeds, [RAW]),
        CheckFacts(lambda: instance, feeds, [GAPS]),
        RunFacts(lambda: instance),
    ]

    for old, new in zip(followed, restarted, strict=True):
        old_figures, new_figures = report(old).figures, report(new).figures
        assert old_figures.counts() == new_figures.counts()
        assert old_figures.counts()
        same = [key for key in old_figures.gauges() if key[0] != "k2_asset_freshness_seconds"]
        assert {key: old_figures.gauges()[key] for key in same} == {key: new_figures.gauges()[key] for key in same}


def test_the_time_a_run_took_counts_once_however_many_days_it_brought(
    instance: dg.DagsterInstance, feeds: list[Feed]
) -> None:
    took = {"read_seconds": 0.2, "decode_seconds": 0.004, "write_seconds": 7.0, "commit_seconds": 0.03}
    materialize(instance, metadata=took, other_days=("2014-03-12", "2014-03-13"))
    materialize(instance, metadata=took)
    values = report(MaterializationFacts(lambda: instance, feeds, [RAW]))

    for name, total in (
        ("k2_ingest_read_duration_seconds", 0.4),
        ("k2_ingest_decode_duration_seconds", 0.008),
        ("k2_iceberg_write_duration_seconds", 14.0),
        ("k2_iceberg_commit_duration_seconds", 0.06),
    ):
        histogram = values(name, **OF_RAW)
        assert sum(histogram.counts) == 2
        assert histogram.sum == pytest.approx(total)
    assert values("k2_iceberg_write_duration_seconds", **OF_RAW).counts[WORK_BUCKETS.index(10.0)] == 2
    assert values("k2_build_duration_seconds", **OF_RAW) is None


def test_a_day_whose_last_attempt_failed_is_a_failed_day_until_it_succeeds(
    instance: dg.DagsterInstance, feeds: list[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialization_facts, "_FAILED_DAYS_EVERY_SECONDS", 0.0)
    part = MaterializationFacts(lambda: instance, feeds, [RAW])
    materialize(instance, "2014-03-11")
    materialize(instance, "2014-03-11", crash=True)
    materialize(instance, "2014-03-12", crash=True)
    assert report(part)("k2_asset_partitions_failed", **OF_RAW) == 2
    materialize(instance, "2014-03-12")
    assert report(part)("k2_asset_partitions_failed", **OF_RAW) == 1


def test_checks_are_counted_by_the_latest_outcome_of_each_day(
    instance: dg.DagsterInstance, feeds: list[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_facts, "_FIRST_PAGE", 1)
    monkeypatch.setattr(check_facts, "_NEXT_PAGES", 2)
    part = CheckFacts(lambda: instance, feeds, [GAPS])
    assert not report(part).figures.gauges()
    materialize(instance, "2014-03-11", gaps=3)
    materialize(instance, "2014-03-12", gaps=4)
    materialize(instance, "2014-03-13", gaps=5, severity=dg.AssetCheckSeverity.ERROR)
    materialize(instance, "2014-03-14")
    first = report(part)
    materialize(instance, "2014-03-11")
    second = report(part)

    def days(values: Values, name: str) -> list[float]:
        return [values(name, **OF_RAW, check="sequence_gaps", status=each) for each in ("passed", "warned", "failed")]

    assert days(first, "k2_check_partitions") == [1, 2, 1]
    assert days(first, "k2_check_evaluations_total") == [1, 2, 1]
    assert (first("k2_missing_messages", **OF_RAW), first("k2_sequence_gaps", **OF_RAW)) == (12, 3)
    assert days(second, "k2_check_partitions") == [2, 1, 1]
    assert days(second, "k2_check_evaluations_total") == [2, 2, 1]
    assert (second("k2_missing_messages", **OF_RAW), second("k2_sequence_gaps", **OF_RAW)) == (9, 2)
    assert second("k2_check_last_evaluated_timestamp_seconds", **OF_RAW, check="sequence_gaps") <= time.time()
    assert second("k2_duplicate_messages", **OF_RAW) is None


def test_an_evaluation_that_was_still_planned_is_counted_once_it_is_there(
    instance: dg.DagsterInstance, feeds: list[Feed]
) -> None:
    part = CheckFacts(lambda: instance, feeds, [GAPS])
    seen_while_running: list[Any] = []

    @dg.asset(key=RAW, partitions_def=DAYS)
    def raw_trades() -> None:
        materialize(instance, "2014-03-12", gaps=2)
        seen_while_running.append(report(part))

    @dg.asset_check(asset=RAW, name="sequence_gaps", partitions_def=DAYS)
    def sequence_gaps() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    assert dg.materialize([raw_trades, sequence_gaps], partition_key="2014-03-11", instance=instance).success
    after = report(part)
    again = report(part)

    def evaluations(values: Values) -> list[float]:
        labels = {**OF_RAW, "check": "sequence_gaps"}
        return [values("k2_check_evaluations_total", **labels, status=each) for each in ("passed", "warned")]

    assert evaluations(seen_while_running[0]) == [0, 1]
    assert evaluations(after) == [1, 1]
    assert evaluations(again) == [1, 1]


def test_runs_are_counted_once_by_job_and_status(instance: dg.DagsterInstance) -> None:
    part = RunFacts(lambda: instance)
    job = "__ephemeral_asset_job__"
    materialize(instance)
    first = report(part)
    materialize(instance)
    materialize(instance, crash=True)
    report(part)
    second = report(part)

    assert first("k2_runs_total", dagster_job=job, status="success") == 1
    assert first("k2_runs_total", dagster_job=job, status="failure") is None
    assert second("k2_runs_total", dagster_job=job, status="success") == 2
    assert second("k2_runs_total", dagster_job=job, status="failure") == 1
    assert sum(second("k2_run_duration_seconds", dagster_job=job).counts) == 3
    assert sum(second("k2_run_start_delay_seconds", dagster_job=job).counts) == 3
    assert second("k2_run_last_success_timestamp_seconds", dagster_job=job) < second(
        "k2_run_last_failure_timestamp_seconds", dagster_job=job
    )


@pytest.mark.parametrize(("status", "queued"), [(dg.DagsterRunStatus.QUEUED, 2), (dg.DagsterRunStatus.STARTED, 0)])
def test_runs_in_flight_and_the_queue_are_what_they_are_now(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, queued: int
) -> None:
    part = RunFacts(lambda: instance)
    runs = [
        create_run_for_test(
            instance,
            job_name="asx_ingest",
            status=status,
            remote_job_origin=RemoteJobOrigin(REPOSITORY, "asx_ingest"),
        )
        for _ in range(2)
    ]
    during = report(part)
    for run in runs:
        instance.delete_run(run.run_id)
    after = report(part)

    assert during("k2_runs_in_flight", dagster_job="asx_ingest", status=status.value.lower()) == 2
    assert during("k2_run_queue_depth") == queued
    assert after("k2_runs_in_flight", dagster_job="asx_ingest", status=status.value.lower()) is None
    assert after("k2_run_queue_depth") == 0


def add_tick(instance: dg.DagsterInstance, status: TickStatus, moment: float) -> None:
    """A tick of asx_kafka_sensor, as the daemon stores it."""
    origin = RemoteInstigatorOrigin(REPOSITORY, "asx_kafka_sensor")
    selector = origin.get_selector().get_id()
    if not instance.get_instigator_state(origin.get_id(), selector):
        data = SensorInstigatorData(min_interval=5)
        instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data))
    instance.create_tick(
        TickData(
            instigator_origin_id=origin.get_id(),
            instigator_name="asx_kafka_sensor",
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=moment,
            selector_id=selector,
            error=SerializableErrorInfo("away", [], None) if status is TickStatus.FAILURE else None,
        )
    )


def test_the_last_tick_of_a_sensor_is_told_with_its_outcome(instance: dg.DagsterInstance) -> None:
    part = AutomationFacts(lambda: instance)
    add_tick(instance, TickStatus.SKIPPED, 1_000.0)
    first = report(part)
    add_tick(instance, TickStatus.FAILURE, 1_005.0)
    second = report(part)

    assert first("k2_instigator_running", instigator="asx_kafka_sensor") == 1
    assert first("k2_instigator_last_tick_timestamp_seconds", instigator="asx_kafka_sensor") == 1_000
    assert first("k2_instigator_last_tick_failed", instigator="asx_kafka_sensor") == 0
    assert second("k2_instigator_last_tick_timestamp_seconds", instigator="asx_kafka_sensor") == 1_005
    assert second("k2_instigator_last_tick_failed", instigator="asx_kafka_sensor") == 1


def test_daemons_heartbeats_are_told(instance: dg.DagsterInstance) -> None:
    instance.add_daemon_heartbeat(DaemonHeartbeat(timestamp=1_234.0, daemon_type="SENSOR", daemon_id="d", errors=None))

    heartbeat = report(AutomationFacts(lambda: instance))("k2_daemon_heartbeat_timestamp_seconds", daemon="sensor")
    assert heartbeat == 1_234


def test_an_instance_that_cannot_be_opened_fails_the_part_and_is_tried_again(tmp_path: Path) -> None:
    parts = platform_parts(Settings(home=tmp_path, kafka_bootstrap="127.0.0.1:1"))
    runs = next(part for part in parts if isinstance(part, RunFacts))
    with pytest.raises(NotSetUp):
        report(runs)
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    assert report(runs)("k2_run_queue_depth") == 0
