"""Backups of homes without a stack of their own: what is in them, what is refused, and what an interruption leaves."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from raw_deliveries import DAY, delivered

from k2_cli.homes.home_backup import HomeBackup
from k2_cli.homes.home_restore import HomeRestore
from k2_market.homes.backup_manifest import BackupError
from k2_market.kinds.trades import TRADES
from k2_platform.catch_up import local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.owned_catalog import OwnedCatalog
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.raw.table import RawTable
from k2_resources.runtime import crash_points
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

RAW = ("asx", "raw_trades")


class Killed(BaseException):
    """Stands for the end of the process."""


def home(directory: Path, **settings: Any) -> Settings:
    return Settings(home=directory, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1", **settings)


def catalog_of(settings: Settings) -> OwnedCatalog:
    return open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)


def backed_up(settings: Settings, directory: Path) -> list[str]:
    """Take a backup; what is said to be left out of it."""
    return list(HomeBackup(settings, lambda line: None).take(directory).left_out)


def restore(settings: Settings, directory: Path) -> int:
    """Restore a backup; how many runs were ended."""
    return HomeRestore(settings, lambda line: None).carry_out(directory).ended_runs


def files_below(directory: Path) -> dict[Path, tuple[int, int]]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def rows(settings: Settings) -> int:
    assert prove_ledger(catalog_of(settings).load_table(RAW), TRADES, None, None).holds
    return RawTable(catalog_of(settings), "asx", TRADES).view().read_day(DAY).num_rows


@pytest.fixture
def original(tmp_path: Path) -> Settings:
    """A home with two commits, and a run that is under way and one that has ended."""
    settings = home(tmp_path / "A")
    for start in (0, 3):
        RawTable(catalog_of(settings), "asx", TRADES).commit(delivered(start, start + 3))
    with local_instance(settings) as instance:
        for run_id, status in (("a" * 32, dg.DagsterRunStatus.STARTED), ("b" * 32, dg.DagsterRunStatus.SUCCESS)):
            instance.add_run(dg.DagsterRun("asx_ingest", run_id, status=status))
    return settings


@pytest.fixture
def backup(original: Settings, tmp_path: Path) -> Path:
    backed_up(original, tmp_path / "backup")
    return tmp_path / "backup"


def stopped_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def reached(name: str) -> None:
        if name == point:
            raise Killed

    monkeypatch.setattr(crash_points, "reached", reached)


def test_a_restored_home_has_rows_and_records_and_goes_on_beside_the_original(
    original: Settings, backup: Path, tmp_path: Path
) -> None:
    there, before = home(tmp_path / "B ä"), files_below(original.home)
    assert restore(there, backup) == 1
    assert files_below(original.home) == before
    assert (rows(there), there.home.stat().st_mode & 0o777) == (6, 0o700)
    RawTable(catalog_of(there), "asx", TRADES).commit(delivered(6, 9))
    RawTable(catalog_of(original), "asx", TRADES).commit(delivered(6, 7))
    assert (rows(there), rows(original)) == (9, 7)
    with local_instance(there) as instance:
        statuses = {run.run_id[0]: run.status for run in instance.get_runs()}
    assert statuses == {"a": dg.DagsterRunStatus.CANCELED, "b": dg.DagsterRunStatus.SUCCESS}
    with local_instance(original) as instance:
        assert instance.get_run_by_id("a" * 32).status is dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]


def test_what_a_home_uses_elsewhere_is_said_to_be_left_out(original: Settings, tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir()
    settings = original.model_copy(update={"feeds_dir": tmp_path / "feeds"})
    left_out = backed_up(settings, tmp_path / "backup")
    assert [each.partition(" (")[2] for each in left_out] == [
        "K2_KAFKA_BOOTSTRAP)",
        "K2_REGISTRY_URL)",
        "K2_FEEDS_DIR)",
    ]


def test_a_warehouse_outside_of_the_home_is_restored_to_where_the_new_homes_settings_say(tmp_path: Path) -> None:
    settings = home(tmp_path / "A", warehouse=f"file://{tmp_path}/tables")
    RawTable(catalog_of(settings), "asx", TRADES).commit(delivered(0, 3))
    backed_up(settings, tmp_path / "backup")
    there = home(tmp_path / "B", warehouse=f"file://{tmp_path}/other tables")
    restore(there, tmp_path / "backup")
    assert rows(there) == 3
    assert (tmp_path / "other tables").is_dir()
    assert not (tmp_path / "B" / "warehouse").exists()
    with pytest.raises(BackupError, match=r"is not empty: .*other tables"):
        restore(home(tmp_path / "C", warehouse=there.warehouse), tmp_path / "backup")


@pytest.mark.parametrize("point", ["restore_copied", "restore_half"])
def test_a_restore_that_was_killed_leaves_no_tables_and_is_done_again_once_its_remains_are_gone(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    there = home(tmp_path / "B")
    with monkeypatch.context() as patched:
        stopped_at(patched, point)
        with pytest.raises(Killed):
            restore(there, backup)
    assert not (there.home / "catalog.db").exists()
    with pytest.raises(BackupError, match=r"an earlier restore was not finished: remove .*\.restoring"):
        restore(there, backup)
    shutil.rmtree(there.home)
    restore(there, backup)
    assert rows(there) == 6


def test_a_backup_that_fails_leaves_nothing_and_one_that_was_killed_is_not_taken_for_one(
    original: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stopped_at(patched, "backup_half")
        with pytest.raises(Killed):
            backed_up(original, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    backed_up(original, tmp_path / "backup")
    (tmp_path / "backup" / "backup.json").unlink()  # as a killed one leaves it: it is written last
    with pytest.raises(BackupError, match=r"has no backup\.json, which is written last"):
        restore(home(tmp_path / "B"), tmp_path / "backup")
    with pytest.raises(BackupError, match="holds a backup that was not finished; nothing is ever overwritten"):
        backed_up(original, tmp_path / "backup")
    assert not (tmp_path / "B").exists()


def test_a_copied_home_is_not_backed_up_as_if_its_tables_were_its_own(original: Settings, tmp_path: Path) -> None:
    shutil.copytree(original.home, tmp_path / "B")
    with pytest.raises(BackupError, match=r"lies at .*Nothing was copied"):
        backed_up(home(tmp_path / "B"), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("catalog_uri", "postgresql+psycopg2://k2:secret@db/catalog", "the catalog is in postgresql"),
        ("warehouse", "s3://bucket/warehouse", "s3://bucket/warehouse is not on this machine"),
    ],
)
def test_what_is_backed_up_by_its_own_means_is_refused_with_what_to_do(
    tmp_path: Path, setting: str, value: str, why: str
) -> None:
    make_backup(tmp_path)
    for act, directory in ((backed_up, tmp_path / "backup"), (restore, tmp_path / "made")):
        with pytest.raises(BackupError) as refused:
            act(home(tmp_path / "A", **{setting: value}), directory)
        assert why in str(refused.value)
        assert "secret" not in str(refused.value)


def make_backup(directory: Path) -> None:
    settings = home(directory / "other")
    RawTable(catalog_of(settings), "asx", TRADES).commit(delivered(0, 3))
    backed_up(settings, directory / "made")


def test_databases_are_backed_up_whole_while_they_are_written_to(original: Settings, tmp_path: Path) -> None:
    (runs,) = (original.home / "dagster").rglob("runs.db")
    with closing(sqlite3.connect(runs)) as writer:
        writer.execute("CREATE TABLE notes (n INTEGER)")
        writer.execute("INSERT INTO notes VALUES (1)")
        writer.commit()
        writer.execute("INSERT INTO notes VALUES (2)")
        backed_up(original, tmp_path / "backup")
    (copied,) = (tmp_path / "backup" / "dagster").rglob("runs.db")
    with closing(sqlite3.connect(copied)) as reader:
        assert reader.execute("SELECT n FROM notes").fetchall() == [(1,)]


def test_a_home_with_nothing_in_it_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is no home of K2's"):
        backed_up(home(tmp_path / "none"), tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []
