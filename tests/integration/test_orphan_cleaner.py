"""The orphan cleaner on real tables: what is needed, or may be, stays; what is not goes, after its rest."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from raw_deliveries import delivered
from typer.testing import CliRunner

from k2_cli.main import app
from k2_market.kinds.trades import TRADES
from k2_market.plans.orphan_files import StoredFile, SweepPlan
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.table_storage import TableStorage
from k2_resources.maintenance.orphan_cleaner import MARKS, FileMissing, FloorTooLow, LocationShared, OrphanCleaner
from k2_resources.raw.table import RawTable

FLOOR = timedelta(hours=24)
TABLE = ("asx", "raw_trades")
KEPT = 6


@pytest.fixture
def few_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables keep so few snapshots that some expire soon."""
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", KEPT)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def clean(catalog: Catalog, hours: float) -> SweepPlan:
    """A look at the table, so many hours from now."""
    now = datetime.now(UTC) + timedelta(hours=hours)
    planned = OrphanCleaner(catalog, FLOOR, lambda _: now).clean(*TABLE)
    assert planned is not None
    return planned


def commit(catalog: Catalog, start: int, end: int) -> None:
    RawTable(catalog, "asx", TRADES).commit(delivered(start, end))


def uncommitted(catalog: Catalog, start: int, end: int) -> Callable[[], Table]:
    """A commit that has written its files and not gone to the catalog; returns what would go there."""
    transaction = catalog.load_table(TABLE).transaction()
    transaction.append(delivered(start, end).rows)
    return transaction.commit_transaction


def files(catalog: Catalog) -> set[str]:
    return {each.path for each in TableStorage(catalog.load_table(TABLE)).files()} - {MARKS}


def paths(some: tuple[StoredFile, ...]) -> set[str]:
    return {each.path for each in some}


def offsets(table: Table, snapshot_id: int | None = None) -> list[int]:
    return sorted(table.scan(snapshot_id=snapshot_id).to_arrow()["kafka_offset"].to_pylist())


def assert_all_snapshots_read(catalog: Catalog) -> None:
    table = catalog.load_table(TABLE)
    for snapshot in table.metadata.snapshots:
        assert snapshot.summary is not None
        assert len(offsets(table, snapshot.snapshot_id)) == int(snapshot.summary["total-records"] or 0)


def test_the_files_of_a_killed_commit_go_after_their_rest_and_not_before(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    before = files(catalog)
    uncommitted(catalog, 3, 6)
    orphans = files(catalog) - before
    assert orphans
    assert paths(clean(catalog, 1).resting) == orphans
    commit(catalog, 3, 6)
    assert clean(catalog, 24.9).deletable == ()
    assert paths(clean(catalog, 25.1).deletable) == orphans
    assert not orphans & files(catalog)
    assert clean(catalog, 80).deletable == ()
    assert_all_snapshots_read(catalog)


def test_an_append_between_its_parquet_and_its_commit_keeps_its_files_however_long_it_is_stopped(
    catalog: Catalog,
) -> None:
    commit(catalog, 0, 3)
    land = uncommitted(catalog, 3, 6)
    for hours in (1, 26, 51, 2000):
        swept = clean(catalog, hours)
        assert swept.deletable == ()
    assert swept.held == swept.resting
    land()
    assert offsets(catalog.load_table(TABLE)) == list(range(6))
    assert clean(catalog, 3000).resting == ()


def test_an_append_whose_files_were_deleted_was_refused_anyway(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    land = uncommitted(catalog, 3, 6)
    clean(catalog, 1)
    commit(catalog, 3, 4)
    assert clean(catalog, 26).deletable
    with pytest.raises(CommitFailedException):
        land()
    assert_all_snapshots_read(catalog)


@pytest.mark.usefixtures("few_snapshots")
def test_files_of_expired_snapshots_go_once_their_readers_had_time(catalog: Catalog) -> None:
    for n in range(3):
        commit(catalog, n, n + 1)
    table = catalog.load_table(TABLE)
    table.delete("kafka_offset < 3")  # their files are needed by the snapshots so far, and by none to come
    reader = table.scan(snapshot_id=table.metadata.snapshots[2].snapshot_id)
    for n in range(3, KEPT + 5):
        commit(catalog, n, n + 1)
    expired = {task.file.file_path for task in reader.plan_files()}
    of_table = TableStorage(table).path_of
    assert len(expired) == 3
    first = clean(catalog, 1)
    assert {of_table(each) for each in expired} <= paths(first.resting)
    assert sorted(reader.to_arrow()["kafka_offset"].to_pylist()) == [0, 1, 2]
    commit(catalog, KEPT + 5, KEPT + 6)
    assert {of_table(each) for each in expired} <= paths(clean(catalog, 26).deletable)
    with pytest.raises(FileNotFoundError):
        reader.to_arrow()
    assert_all_snapshots_read(catalog)
    commit(catalog, KEPT + 6, KEPT + 7)
    assert_all_snapshots_read(catalog)


@pytest.mark.usefixtures("few_snapshots")
def test_a_tagged_snapshot_keeps_its_files(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    table = catalog.load_table(TABLE)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    table.manage_snapshots().create_tag(snapshot.snapshot_id, "d2014-03-11").commit()
    catalog.load_table(TABLE).delete("kafka_offset >= 0")
    for n in range(3, KEPT + 5):
        commit(catalog, n, n + 1)
    clean(catalog, 1)
    commit(catalog, KEPT + 5, KEPT + 6)
    assert clean(catalog, 26).deletable
    assert offsets(catalog.load_table(TABLE), snapshot.snapshot_id) == [0, 1, 2]


def test_what_a_commit_brings_while_files_are_listed_is_known_to_be_needed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(catalog, 0, 3)
    listing = TableStorage.files

    def listing_while_an_append_lands(storage: TableStorage) -> tuple[StoredFile, ...]:
        land = uncommitted(catalog, 3, 6)
        listed = listing(storage)
        land()
        return listed

    monkeypatch.setattr(TableStorage, "files", listing_while_an_append_lands)
    assert clean(catalog, 100).resting == ()


def test_a_look_changes_nothing(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    uncommitted(catalog, 3, 6)
    before = files(catalog)
    root = Path(catalog.load_table(TABLE).location().removeprefix("file://"))
    changed = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    found = OrphanCleaner(catalog, FLOOR).look(*TABLE)
    assert found is not None
    assert found.resting
    assert files(catalog) == before
    # A directory's time tells of a file that was made and deleted again.
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == changed
    assert not TableStorage(catalog.load_table(TABLE)).exists(MARKS)


def test_nothing_outside_of_the_tables_location_is_looked_at(catalog: Catalog, tmp_path: Path) -> None:
    commit(catalog, 0, 3)
    root = Path(catalog.load_table(TABLE).location().removeprefix("file://"))
    neighbour = root.with_name("raw_trades_of_mine") / "data" / "mine.parquet"
    neighbour.parent.mkdir(parents=True)
    neighbour.write_bytes(b"mine")
    clean(catalog, 1)
    commit(catalog, 3, 4)
    assert clean(catalog, 26).deletable == ()
    assert neighbour.exists()


def test_the_metadata_file_written_last_stays_though_the_catalog_does_not_name_it(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    commit(catalog, 3, 4)
    metadata = Path(catalog.load_table(TABLE).metadata_location.removeprefix("file://"))
    last, stray = metadata.with_name("99999-last.metadata.json"), metadata.with_name("00000-stray.metadata.json")
    for path, age in ((stray, 3600), (last, -3600)):
        path.write_bytes(metadata.read_bytes())
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    clean(catalog, 2)
    commit(catalog, 4, 5)
    os.utime(last, (last.stat().st_mtime + 3600,) * 2)
    assert paths(clean(catalog, 100).deletable) == {"metadata/00000-stray.metadata.json"}
    assert last.exists()


@pytest.mark.parametrize("hours", [0.0, 0.99, -5.0])
def test_a_floor_that_a_commit_may_outlast_is_refused(catalog: Catalog, hours: float) -> None:
    with pytest.raises(FloorTooLow, match="1 h at least"):
        OrphanCleaner(catalog, timedelta(hours=hours))


def test_a_table_that_lacks_a_file_is_left_alone_and_the_file_is_named(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    uncommitted(catalog, 3, 6)
    (task,) = catalog.load_table(TABLE).scan().plan_files()
    Path(task.file.file_path.removeprefix("file://")).unlink()
    with pytest.raises(FileMissing, match=r"asx\.raw_trades refers to .*parquet, which is not there"):
        clean(catalog, 100)


def test_a_table_whose_manifest_list_is_gone_is_left_alone(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    snapshot = catalog.load_table(TABLE).current_snapshot()
    assert snapshot is not None
    Path(snapshot.manifest_list.removeprefix("file://")).unlink()
    with pytest.raises(FileMissing, match=r"asx\.raw_trades: .*Nothing was deleted"):
        clean(catalog, 100)


def test_a_location_that_another_table_shares_is_left_alone(catalog: Catalog) -> None:
    commit(catalog, 0, 3)
    catalog.rename_table(TABLE, ("asx", "kept_for_later"))
    commit(catalog, 0, 3)
    with pytest.raises(LocationShared, match=r"asx\.kept_for_later lies there too"):
        clean(catalog, 1)


CLEANING = """
from datetime import UTC, datetime, timedelta
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
now = datetime.now(UTC) + timedelta(hours={hours})
catalog = open_catalog({uri!r}, {warehouse!r})
OrphanCleaner(catalog, timedelta(hours=24), lambda _: now).clean("asx", "raw_trades")
"""


def test_a_cleaner_killed_between_two_deletions_leaves_a_whole_table_and_the_next_goes_on(
    catalog: Catalog, tmp_path: Path
) -> None:
    commit(catalog, 0, 3)
    before = files(catalog)
    uncommitted(catalog, 3, 6)
    orphans = files(catalog) - before
    clean(catalog, 1)
    commit(catalog, 3, 6)
    text = CLEANING.format(hours=26, uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    environment = {**os.environ, "K2_CRASH_AT": "orphan_half"}
    killed = subprocess.run([sys.executable, "-c", text], env=environment, timeout=60, check=False)
    assert killed.returncode == -9
    assert len(files(catalog) & orphans) == len(orphans) - 1
    assert_all_snapshots_read(catalog)
    clean(catalog, 27)
    commit(catalog, 6, 7)
    clean(catalog, 52)
    assert not files(catalog) & orphans
    assert_all_snapshots_read(catalog)


def test_the_command_counts_what_it_marked_and_kept(catalog: Catalog, tmp_path: Path, monkeypatch) -> None:
    commit(catalog, 0, 3)
    uncommitted(catalog, 3, 6)
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["clean-orphans", "--feed", "asx", "--json"])
    assert result.exit_code == 0, result.output
    assert '"deleted": {"files": 0, "bytes": 0}, "marked": {"files": 3' in result.stdout
    shown = CliRunner().invoke(app, ["clean-orphans", "--dry-run"])
    assert "asx.raw_trades" in shown.stdout
    assert "nothing was deleted or marked" in shown.stdout
    refused = CliRunner().invoke(app, ["clean-orphans", "--older-than", "0.5"])
    assert refused.exit_code == 1
    assert "1 h at least, not 0.5 h" in refused.stderr
