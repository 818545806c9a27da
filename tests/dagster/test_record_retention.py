"""Records of old runs go; what the UI and the checks read of each day stays."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.test_utils import create_run_for_test

from k2_assets.maintenance import remove_runs_past_retention
from k2_platform.dagster_storage import DagsterHome
from k2_resources.dagster.record_retention import remove_old_runs
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

DAYS = dg.StaticPartitionsDefinition(["2026-11-23", "2026-11-24"])
KEY = dg.AssetKey(["asx", "raw_trades"])
CHECK = dg.AssetCheckKey(KEY, "offsets_reconcile")
LATER = datetime.now(UTC) + timedelta(days=1)


@dg.asset(
    key=KEY, partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("offsets_reconcile", asset=KEY, partitions_def=DAYS)]
)
def raw_trades(context: dg.AssetExecutionContext) -> Iterator[object]:
    if context.run.tags.get("fails"):
        raise ValueError("as told")
    yield dg.MaterializeResult(
        asset_key=KEY, check_results=[dg.AssetCheckResult(passed=True, check_name="offsets_reconcile")]
    )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Records as `k2 up` keeps them: a file a run."""
    DagsterHome(tmp_path, 4266, {}).write()
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, day: str, **tags: str) -> str:
    done = dg.materialize([raw_trades], instance=instance, partition_key=day, tags=tags, raise_on_error=False)
    return done.run_id


def ids(instance: dg.DagsterInstance) -> set[str]:
    return {each.run_id for each in instance.get_runs()}


def test_runs_that_made_no_day_last_are_removed_with_their_files(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    removed = {run(instance, "2026-11-23"), run(instance, "2026-11-23", fails="yes")}
    kept = {run(instance, "2026-11-23"), run(instance, "2026-11-24")}
    under_way = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED).run_id

    assert remove_old_runs(instance, [CHECK], LATER) == 2

    assert ids(instance) == kept | {under_way}
    assert instance.get_materialized_partitions(KEY) == {"2026-11-23", "2026-11-24"}
    latest = instance.event_log_storage.get_asset_check_partition_info([CHECK])
    assert {each.partition_key: each.latest_execution_status for each in latest} == dict.fromkeys(
        ["2026-11-23", "2026-11-24"], AssetCheckExecutionRecordStatus.SUCCEEDED
    )
    left = {path.name.split(".")[0] for path in (tmp_path / "history" / "runs").iterdir()}
    assert not left & removed
    assert kept <= left
    assert not [path for each in removed for path in (tmp_path / "storage").rglob(f"*{each}*")]
    assert remove_old_runs(instance, [CHECK], LATER) == 0


def test_runs_that_are_younger_than_they_are_kept_stay(instance: dg.DagsterInstance) -> None:
    all_runs = {run(instance, "2026-11-23"), run(instance, "2026-11-23")}

    assert remove_runs_past_retention(instance, Settings(keep_runs_days=1), datetime.now(UTC)) == 0
    assert remove_runs_past_retention(instance, Settings(keep_runs_days=0), LATER + timedelta(days=9)) == 0
    assert ids(instance) == all_runs
    assert remove_runs_past_retention(instance, Settings(keep_runs_days=1), LATER + timedelta(days=1)) == 1
