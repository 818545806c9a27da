"""Events stored through kept connections are Dagster's own, for Dagster's own storage and beside it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from k2_platform.dagster_storage import DagsterHome
from k2_resources.dagster.kept_event_storage import MOST_FILES, KeptEventStorage

ASSET = dg.AssetKey(["asx", "raw_trades"])
DAYS = [f"2026-03-{day:02d}" for day in range(2, 7)]


@pytest.fixture
def home(tmp_path: Path) -> DagsterHome:
    made = DagsterHome(tmp_path / "dagster", 4266, {})
    made.write()
    return made


@pytest.fixture
def instance(home: DagsterHome) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home.directory)) as made:
        yield made


def report(instance: dg.DagsterInstance, *days: str) -> None:
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization(ASSET, partition=day))


def a_run(instance: dg.DagsterInstance) -> str:
    @dg.asset(key=ASSET, partitions_def=dg.DailyPartitionsDefinition("2026-03-02"))
    def raw_trades(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        context.log_event(dg.AssetMaterialization(ASSET, partition=DAYS[1]))
        return dg.MaterializeResult(metadata={"rows": 3})

    return dg.materialize([raw_trades], instance=instance, partition_key=DAYS[0]).run_id


def test_a_home_of_k2_up_keeps_its_connections(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.event_log_storage, KeptEventStorage)


def test_dagsters_own_storage_reads_what_was_stored_and_stores_what_is_read(
    home: DagsterHome, instance: dg.DagsterInstance
) -> None:
    run_id = a_run(instance)
    with dg.instance_for_test(temp_dir=str(home.directory)) as own:
        assert type(own.event_log_storage) is SqliteEventLogStorage
        assert own.get_materialized_partitions(ASSET) == {DAYS[0], DAYS[1]}
        assert [str(event) for event in own.all_logs(run_id)] == [str(event) for event in instance.all_logs(run_id)]
        report(own, DAYS[2])
    assert instance.get_materialized_partitions(ASSET) == set(DAYS[:3])


def test_threads_and_a_second_instance_store_side_by_side(home: DagsterHome, instance: dg.DagsterInstance) -> None:
    with dg.DagsterInstance.from_config(str(home.directory)) as other, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: report((instance, other)[number % 2], *DAYS), range(16)))
        found = other.fetch_materializations(ASSET, limit=1_000).records
    assert len(found) == 16 * len(DAYS)
    assert instance.get_materialized_partitions(ASSET) == set(DAYS)


def test_of_many_runs_few_files_stay_open_and_none_after_the_end(home: DagsterHome) -> None:
    def open_files() -> set[str]:
        opened = {each.path for each in psutil.Process().open_files()}
        return {path for path in opened if str(home.directory) in path and path.endswith(".db") and "/runs/" in path}

    with dg.DagsterInstance.from_config(str(home.directory)) as instance:
        for _ in range(MOST_FILES + 2):
            a_run(instance)
        assert 0 < len(open_files()) <= MOST_FILES
    assert open_files() == set()


def test_a_wipe_leaves_nothing_and_what_comes_after_it_is_stored(instance: dg.DagsterInstance) -> None:
    run_id = a_run(instance)
    instance.event_log_storage.wipe()
    assert instance.all_logs(run_id) == []
    report(instance, DAYS[3])
    assert instance.get_materialized_partitions(ASSET) == {DAYS[3]}
