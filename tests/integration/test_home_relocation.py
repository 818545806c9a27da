"""A home that was moved or copied becomes a home of its own by ``k2 relocate``; the other place is untouched."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table
from raw_deliveries import DAY, delivered
from typer.testing import CliRunner

from k2_cli.main import app
from k2_market.kinds.trades import TRADES
from k2_resources.homes.home_relocation import CatalogChanged, HomeRelocation, RelocationRefused
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.owned_catalog import ForeignTable, OwnedCatalog
from k2_resources.iceberg.table_errors import WarehouseUnavailable
from k2_resources.maintenance.day_tagging import tag_day
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.maintenance.raw_compaction import RawCompactor
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.raw.table import RawTable
from k2_resources.runtime import crash_points
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

RAW = ("asx", "raw_trades")


def home(directory: Path, **settings: Any) -> Settings:
    return Settings(home=directory, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1", **settings)


def catalog_of(settings: Settings) -> OwnedCatalog:
    return open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)


@pytest.fixture
def original(tmp_path: Path) -> Settings:
    """A home with snapshots of which the oldest has files that the newest does not, and with a tag."""
    settings = home(tmp_path / "A b#c")
    catalog = catalog_of(settings)
    for start in (0, 3):
        RawTable(catalog, "asx", TRADES).commit(delivered(start, start + 3))
    tag_day(catalog, "asx", "raw_trades", DAY)
    RawCompactor(catalog, "asx", TRADES, lambda days: days).compact()
    RawTable(catalog, "asx", TRADES).commit(delivered(6, 9))
    return settings


def copied(original: Settings, place: Path) -> Settings:
    shutil.copytree(original.home, place)
    return home(place)


def moved(original: Settings, place: Path) -> Settings:
    original.home.rename(place)
    return home(place)


def relocation(settings: Settings) -> HomeRelocation:
    return HomeRelocation(catalog_of(settings))


def files_below(directory: Path) -> dict[Path, tuple[int, int]]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def rows_of_every_snapshot(table: Table) -> list[tuple[int, list[int]]]:
    return [
        (each.snapshot_id, sorted(table.scan(snapshot_id=each.snapshot_id).to_arrow()["kafka_offset"].to_pylist()))
        for each in table.metadata.snapshots
    ]


def paths_named(table: Table) -> list[str]:
    """Every path that a table's metadata names, in all its layers."""
    metadata = table.metadata
    named = [metadata.location, *(each.metadata_file for each in metadata.metadata_log)]
    for snapshot in metadata.snapshots:
        named.append(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            named.append(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
            named += [entry.data_file.file_path for entry in entries]
    return named


@pytest.mark.parametrize("went", [copied, moved])
def test_a_home_at_another_place_has_all_its_rows_snapshots_and_tags_and_goes_on(
    original: Settings, tmp_path: Path, went: Callable[[Settings, Path], Settings]
) -> None:
    before = catalog_of(original).load_table(RAW)
    rows, refs, properties = rows_of_every_snapshot(before), before.metadata.refs, before.properties
    there = went(original, tmp_path / "elsewhere" if went is moved else tmp_path / "B ?x")
    with pytest.raises((ForeignTable, WarehouseUnavailable), match="`k2 relocate`"):
        RawTable(catalog_of(there), "asx", TRADES).commit(delivered(9, 12))
    data_files = {path: seen for path, seen in files_below(there.home).items() if path.suffix == ".parquet"}
    shutil.rmtree(original.home, ignore_errors=True)

    assert relocation(there).carry_out().changed == ["asx.raw_trades"]

    table = catalog_of(there).load_table(RAW)
    assert rows_of_every_snapshot(table) == rows
    assert table.metadata.refs == refs
    assert {**table.properties, "k2.owner": ""} == {**properties, "k2.owner": ""}
    assert [path for path in paths_named(table) if str(there.home) not in path] == []
    assert {path: seen for path, seen in files_below(there.home).items() if path.suffix == ".parquet"} == data_files
    RawTable(catalog_of(there), "asx", TRADES).commit(delivered(9, 12))
    RawCompactor(catalog_of(there), "asx", TRADES, lambda days: days).compact()
    OrphanCleaner(catalog_of(there), timedelta(hours=24)).clean("asx", "raw_trades")
    again = catalog_of(there).load_table(RAW)
    assert prove_ledger(again, TRADES, None, None).holds
    assert sorted(again.scan().to_arrow()["kafka_offset"].to_pylist()) == list(range(12))


def test_the_original_is_untouched_by_its_copys_relocation_and_both_go_on(original: Settings, tmp_path: Path) -> None:
    there = copied(original, tmp_path / "B")
    before = files_below(original.home)
    relocation(there).carry_out()
    RawTable(catalog_of(there), "asx", TRADES).commit(delivered(9, 12))
    assert files_below(original.home) == before
    RawTable(catalog_of(original), "asx", TRADES).commit(delivered(9, 10))
    for settings, rows in ((original, 10), (there, 12)):
        assert RawTable(catalog_of(settings), "asx", TRADES).view().read_day(DAY).num_rows == rows
        assert prove_ledger(catalog_of(settings).load_table(RAW), TRADES, None, None).holds


def test_a_home_that_is_where_it_was_has_nothing_to_relocate(original: Settings) -> None:
    before = files_below(original.home)
    assert relocation(original).carry_out().changed == []
    assert files_below(original.home) == before


@pytest.mark.parametrize("lacking", ["*.parquet", "snap-*.avro", "*-m0.avro"])
def test_a_copy_that_lacks_a_file_of_any_snapshot_is_refused_by_the_files_name_and_nothing_is_changed(
    original: Settings, tmp_path: Path, lacking: str
) -> None:
    there = copied(original, tmp_path / "B")
    named = {path.rpartition("/")[2] for path in paths_named(catalog_of(original).load_table(RAW))}
    lost = next(each for each in sorted((there.home / "warehouse").rglob(lacking)) if each.name in named)
    lost.unlink()
    before = files_below(there.home)
    with pytest.raises(RelocationRefused, match=f"{lost.name} is not there.*Nothing was changed"):
        relocation(there).carry_out()
    assert files_below(there.home) == before


def test_a_copy_with_a_file_cut_short_is_refused(original: Settings, tmp_path: Path) -> None:
    there = copied(original, tmp_path / "B")
    (cut, *_) = sorted((there.home / "warehouse").rglob("*.parquet"))
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(RelocationRefused, match=f"{cut.name} has .* bytes in place of"):
        relocation(there).carry_out()


def test_a_copied_catalog_over_the_originals_own_warehouse_is_refused_while_the_original_is_there(
    original: Settings, tmp_path: Path
) -> None:
    copied(original, tmp_path / "B")
    there = home(tmp_path / "B", warehouse=original.iceberg_warehouse)
    with pytest.raises(RelocationRefused, match="which is still there: two catalogs"):
        relocation(there).carry_out()
    assert relocation(there).carry_out(take_over=True).changed == ["asx.raw_trades"]
    RawTable(catalog_of(there), "asx", TRADES).commit(delivered(9, 12))


def test_a_warehouse_that_is_linked_to_from_the_copy_counts_as_the_originals(
    original: Settings, tmp_path: Path
) -> None:
    (tmp_path / "B").mkdir()
    shutil.copy2(original.home / "catalog.db", tmp_path / "B" / "catalog.db")
    (tmp_path / "B" / "warehouse").symlink_to(original.home / "warehouse")
    before = files_below(original.home)
    with pytest.raises(RelocationRefused, match="which is still there"):
        relocation(home(tmp_path / "B")).carry_out()
    assert files_below(original.home) == before


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("point", ["relocated_half", "before_relocation", "after_relocation"])
def test_a_relocation_that_was_killed_at_any_point_is_done_again_to_the_same_end(
    original: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    there = copied(original, tmp_path / "B")

    def reached(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(crash_points, "reached", reached)
        with pytest.raises(Killed):
            relocation(there).carry_out()
    relocation(there).carry_out()
    table = catalog_of(there).load_table(RAW)
    assert prove_ledger(table, TRADES, None, None).holds
    assert sorted(table.scan().to_arrow()["kafka_offset"].to_pylist()) == list(range(9))
    assert relocation(there).carry_out().changed == []


def test_tables_that_another_process_relocates_meanwhile_are_left_as_it_made_them(
    original: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = copied(original, tmp_path / "B")

    def other_is_quicker(point: str) -> None:
        if point == "before_relocation":
            monkeypatch.undo()
            relocation(there).carry_out()

    monkeypatch.setattr(crash_points, "reached", other_is_quicker)
    with pytest.raises(CatalogChanged, match=r"asx\.raw_trades: another process changed it"):
        relocation(there).carry_out()
    assert prove_ledger(catalog_of(there).load_table(RAW), TRADES, None, None).holds


def test_the_command_says_what_there_is_to_do_and_changes_nothing_before_it_is_told_to(
    original: Settings, tmp_path: Path
) -> None:
    there = copied(original, tmp_path / "B")
    before = files_below(there.home / "warehouse"), (there.home / "catalog.db").read_bytes()
    shown = k2(there, "relocate", "--dry-run")
    assert shown.stdout.splitlines() == ["asx.raw_trades: metadata written anew", "Dry run: nothing was changed."]
    assert (files_below(there.home / "warehouse"), (there.home / "catalog.db").read_bytes()) == before
    assert "Done." in k2(there, "relocate").stdout
    assert "Nothing to relocate: the 1 tables" in k2(there, "relocate").stdout
    counted = k2(there, "sql", "SELECT count(*) AS n FROM asx.raw_trades", "--format", "json")
    assert (json.loads(counted.stdout), counted.stderr) == ([{"n": 9}], "")


def k2(settings: Settings, *arguments: str) -> Any:
    environment = {**settings.environment_variables(), "K2_LOG_FORMAT": "json"}
    return CliRunner().invoke(app, arguments, env=environment)
