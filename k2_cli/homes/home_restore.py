"""Restores a home from a backup, at any place: verifies the copy, relocates the tables, and then moves it into place.

Everything is made ready beside where it is to lie, under names that end with ``.restoring``, and put in place at the
end, the catalog last. So a restore that was interrupted leaves no home that could be taken for a whole one.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from sqlalchemy import create_engine

from k2_assets.records.run_records import IN_FLIGHT
from k2_cli.homes.home_backup import DAGSTER, HomePlaces, Report
from k2_market.homes.backup_manifest import FILE_NAME, BackupError, BackupFile, BackupManifest
from k2_market.homes.home_format import require_known
from k2_market.homes.table_ownership import Owner
from k2_platform.dagster_storage import DagsterHome, initialise, pools_of_feeds
from k2_resources.files.file_copy import copy_verified
from k2_resources.files.path_names import sqlite_uri
from k2_resources.files.private_directories import make_private
from k2_resources.homes.home_format import format_of, installed_version
from k2_resources.homes.home_relocation import CatalogRow, switch
from k2_resources.homes.table_copy import CATALOG, WAREHOUSE, move_of
from k2_resources.homes.table_relocation import NotRelocatable, as_lines
from k2_resources.logs.structured_logging import get_logger
from k2_resources.runtime import crash_points
from k2_resources.settings import Settings

_STAGED = ".restoring"
_ENDED = (
    "The home that this run belonged to was backed up while it was under way; this is another home, made of that backup"
)
_LEFT_TO_THE_HOME = ("java", "logs", "run")
"""Parts that a home may have before it is restored: downloads, and files that commands write by themselves."""

_log = get_logger("restore")


@dataclass(frozen=True)
class Restored:
    """Describes what was restored.

    Attributes:
        manifest: What the backup holds.
        ended_runs: Runs that were under way when the backup was taken.
    """

    manifest: BackupManifest
    ended_runs: int


@dataclass(frozen=True)
class HomeRestore:
    """Restores a backup into the home that settings name.

    Attributes:
        settings: The settings.
        report: Told what goes on.
    """

    settings: Settings
    report: Report

    def carry_out(self, backup: Path) -> Restored:
        """Restore a backup into a home that is empty.

        Raises:
            BackupError: The backup was not finished or is damaged, or the home is not empty; nothing was put in place.
            HomeFormatError: A newer K2 made the home that it is of.
        """
        manifest = read_manifest(backup)
        _require_known_format(backup)
        places = HomePlaces.of(self.settings)
        _require_empty(places, manifest)
        make_private(places.home)
        self.report(f"{len(manifest.files):,} files, {manifest.size:,} bytes")
        parts = _Parts(places, manifest)
        _require_room(places, manifest)
        for file in manifest.files:
            copy_verified(file, backup / file.path, parts.staged(file))
        crash_points.reached("restore_copied")
        self.report("tables, for their new place")
        self._relocate(manifest, parts)
        ended = self._end_runs(parts)
        os.sync()
        parts.put_in_place()
        os.sync()
        _log.info("home restored", backup=str(backup), taken=manifest.taken.isoformat(), ended_runs=ended)
        return Restored(manifest, ended)

    def _relocate(self, manifest: BackupManifest, parts: "_Parts") -> None:
        """Have the tables' metadata name the places that their files are about to have."""
        if not manifest.tables:
            return
        owner = Owner(f"sqlite:{os.path.realpath(parts.places.catalog)}", self.settings.iceberg_warehouse)
        changes = []
        for table in manifest.tables:
            location = f"{owner.warehouse.rstrip('/')}/{table.directory}"
            move = move_of(table, parts.staged_warehouse, location)
            missing = list(move.missing())
            if missing:
                raise BackupError(f"{move.name}: {as_lines(missing)}: the backup is not whole")
            row = CatalogRow(table.catalog, table.namespace, table.table, table.metadata_location)
            try:
                changes.append((row, move.carry_out(owner.mark)))
            except NotRelocatable as error:
                raise BackupError(str(error)) from error
        engine = create_engine(sqlite_uri(parts.staged_catalog))
        try:
            switch(engine, changes)
        finally:
            engine.dispose()

    def _end_runs(self, parts: "_Parts") -> int:
        """End the runs that were under way in the other home; how many there were."""
        directory = parts.staged_home / DAGSTER
        if not directory.is_dir():
            return 0
        home = DagsterHome(directory, self.settings.code_server_port, {})
        home.write()
        initialise(directory, pools_of_feeds(self.settings))
        with dg.DagsterInstance.from_config(str(directory)) as instance:
            under_way = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
            for run in under_way:
                instance.report_run_canceled(run, message=_ENDED)
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        DagsterHome(parts.places.home / DAGSTER, self.settings.code_server_port, {}).write(into=directory)
        return len(under_way)


class _Parts:
    """The parts of a home while it is made of a backup: where each is made ready, and where it is put."""

    def __init__(self, places: HomePlaces, manifest: BackupManifest) -> None:
        self.places = places
        self._names = sorted({file.path.partition("/")[0] for file in manifest.files} - {CATALOG, WAREHOUSE})
        self._has_tables = any(file.path == CATALOG for file in manifest.files)

    @property
    def staged_home(self) -> Path:
        """Give the directory in which parts of the home are made ready."""
        return self.places.home / f"home{_STAGED}"

    @property
    def staged_warehouse(self) -> Path:
        """Give the directory in which the warehouse is made ready."""
        return _staged(self.places.warehouse)

    @property
    def staged_catalog(self) -> Path:
        """Give the path at which the catalog is made ready."""
        return _staged(self.places.catalog)

    def staged(self, file: BackupFile) -> Path:
        """Give the path at which a file of the backup is made ready."""
        if file.path == CATALOG:
            return self.staged_catalog
        first, _, rest = file.path.partition("/")
        return self.staged_warehouse / rest if first == WAREHOUSE else self.staged_home / file.path

    def put_in_place(self) -> None:
        """Put everything where it is to lie; the catalog last, without which a home has no tables."""
        for name in self._names:
            (self.staged_home / name).rename(self.places.home / name)
            crash_points.reached("restore_half")
        if self.staged_home.exists():
            self.staged_home.rmdir()
        if self._has_tables:
            if self.staged_warehouse.exists():
                _make_way(self.places.warehouse)
                self.staged_warehouse.rename(self.places.warehouse)
            self.staged_catalog.rename(self.places.catalog)


def read_manifest(backup: Path) -> BackupManifest:
    """Describes what a backup holds.

    Raises:
        BackupError: It is none, or was not finished.
    """
    file = backup / FILE_NAME
    try:
        return BackupManifest.from_json(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError as missing:
        if not backup.is_dir():
            raise BackupError(f"{backup} is no directory: expected one that `k2 backup` made") from missing
        raise BackupError(
            f"{backup} has no {FILE_NAME}, which is written last: the backup was not finished, or this is none"
        ) from missing
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError(f"{file} can't be read: {error}") from error


def _require_known_format(backup: Path) -> None:
    """Refuse a backup of a home that a newer K2 made.

    Raises:
        HomeFormatError: It is one.
    """
    found = format_of(backup)
    if found is not None:
        require_known(found, str(backup), installed_version())


def _require_empty(places: HomePlaces, manifest: BackupManifest) -> None:
    """See that nothing of a home is there that the backup's would take the place of.

    Raises:
        BackupError: Something is; names it.
    """
    staged = [places.home / f"home{_STAGED}", _staged(places.warehouse), _staged(places.catalog)]
    unfinished = [each for each in staged if each.exists()]
    if unfinished:
        raise BackupError(
            f"an earlier restore was not finished: remove {', '.join(map(str, unfinished))} and what else it left in "
            f"{places.home}, and run it again"
        )
    there = list(_in_the_way(places))
    if there:
        raise BackupError(
            f"{places.home} (K2_HOME) is not empty: {', '.join(map(str, there[:5]))}. A backup of {manifest.home} is "
            "restored into an empty home: give another K2_HOME"
        )


def _in_the_way(places: HomePlaces) -> Iterator[Path]:
    if places.home.is_dir():
        yield from (each for each in sorted(places.home.iterdir()) if each.name not in _LEFT_TO_THE_HOME)
    for each in (places.catalog, places.warehouse):
        if not each.is_relative_to(places.home) and each.exists() and (each.is_file() or any(each.iterdir())):
            yield each


def _require_room(places: HomePlaces, manifest: BackupManifest) -> None:
    free = shutil.disk_usage(places.home).free
    in_home = sum(file.size for file in manifest.files if not file.path.startswith(f"{WAREHOUSE}/"))
    needed = manifest.size if places.warehouse.is_relative_to(places.home) else in_home
    if needed > free:
        raise BackupError(f"{places.home} has {free:,} bytes of room, the backup needs {needed:,}")


def _make_way(directory: Path) -> None:
    """Remove an empty directory that another is about to take the place of."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.is_dir():
        directory.rmdir()


def _staged(place: Path) -> Path:
    return place.with_name(place.name + _STAGED)
