"""Backs up a home while everything runs: Dagster's records first, then the tables, Kafka and the registry.

The order makes it consistent. Dagster's records know no more than the tables that are copied after them, and no ledger
has an offset that Kafka's log, copied later still, does not have. What happened in between is pending again in a home
that is made of the backup, and is done once.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from k2_cli.homes.registry_copy import SCHEMAS, RegistryCopying
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import ServiceState
from k2_market.homes.backup_manifest import FILE_NAME, BackupError, BackupManifest, BackupTable
from k2_resources.files.file_copy import CopiedFiles, is_database
from k2_resources.files.private_directories import make_private
from k2_resources.homes.home_relocation import HomeRelocation
from k2_resources.homes.kafka_log_copy import copy_kafka
from k2_resources.homes.table_copy import TableCopying
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.catalog_identity import local_directory, sqlite_file
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.runtime import crash_points
from k2_resources.settings import Settings

Report = Callable[[str], None]
"""Told, a line at a time, what goes on."""

DAGSTER, KAFKA, REGISTRY = "dagster", "kafka/data", "registry"
"""Paths of these parts, in a home and in a backup alike."""

_NOT_COPIED = ("java", "kafka", "logs", "registry", "run", "spill", "warehouse")
"""Parts of a home that a backup lacks, or copies by itself: downloads, logs, records of processes, spilled rows."""

_MADE_ANEW = frozenset({"dagster.yaml", "workspace.yaml", ".lock"})
_BESIDE_A_DATABASE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class HomePlaces:
    """Gives the paths of the parts of a home that a backup is made of.

    Attributes:
        home: The home.
        catalog: The catalog's SQLite file.
        warehouse: The directory that its tables lie in.
    """

    home: Path
    catalog: Path
    warehouse: Path

    @classmethod
    def of(cls, settings: Settings) -> "HomePlaces":
        """Give the paths that settings name.

        Raises:
            BackupError: The catalog is no SQLite file, or the warehouse is not on this machine; says what to do.
        """
        url = make_url(settings.iceberg_catalog_uri)
        catalog, warehouse = sqlite_file(url), local_directory(settings.iceberg_warehouse)
        if catalog is None:
            raise BackupError(
                f"the catalog is in {url.get_backend_name()} (K2_CATALOG_URI), which is backed up by its own means: "
                "take `pg_dump` of its database first, then copy the warehouse, then the broker's and the registry's "
                "data; docs/operating.md has the steps"
            )
        if warehouse is None:
            raise BackupError(
                f"the warehouse {settings.iceberg_warehouse} is not on this machine: it is backed up by the object "
                "store's own means (versions, or a copy of the bucket), after a copy of the catalog; "
                "docs/operating.md has the steps"
            )
        return cls(settings.home, catalog, warehouse)


@dataclass(frozen=True)
class HomeBackup:
    """Takes a backup of the home that settings name.

    Attributes:
        settings: The settings.
        report: Told what goes on.
    """

    settings: Settings
    report: Report

    def take(self, directory: Path) -> BackupManifest:
        """Take a backup into a directory that is not there yet, or is empty; nothing is left of one that fails.

        Raises:
            BackupError: It can't be taken; says why.
        """
        places = HomePlaces.of(self.settings)
        _require_home(places)
        _require_apart(directory, places)
        self._require_own_tables(places)
        with _new_directory(directory):
            copied, began = CopiedFiles(directory), datetime.now(UTC)
            copied.directory.chmod(0o700)
            parts = [*self._records(places, copied), *self._others(places, copied)]
            tables = self._tables(places, copied)
            parts += ["tables"] if tables else []
            crash_points.reached("backup_half")
            parts += [*self._kafka(places, copied), *self._registry(places, copied)]
            manifest = BackupManifest(
                taken=began,
                home=str(places.home),
                parts=tuple(parts),
                left_out=tuple(self._left_out()),
                tables=tables,
                files=tuple(copied.files[path] for path in sorted(copied.files)),
            )
            os.sync()  # all that it lists is to last before the list does
            copied.write(FILE_NAME, manifest.to_json().encode())
            os.sync()
            return manifest

    def _records(self, places: HomePlaces, copied: CopiedFiles) -> Iterator[str]:
        """Copy what Dagster knows; sensors' cursors first, then events, then runs: none is ahead of those after it."""
        dagster = places.home / DAGSTER
        if not dagster.is_dir():
            return
        self.report("Dagster's records")
        files = [each for each in dagster.rglob("*") if each.is_file() and each.name not in _MADE_ANEW]
        _copy_all(sorted(files, key=lambda file: _turn(file, dagster)), places.home, copied)
        yield "dagster"

    def _others(self, places: HomePlaces, copied: CopiedFiles) -> Iterator[str]:
        """Copy what else lies in the home, as the counts for metrics."""
        elsewhere = {places.catalog, *places.warehouse.parents, places.warehouse, copied.directory}
        files = [
            file
            for entry in sorted(places.home.iterdir())
            if entry.name not in (*_NOT_COPIED, DAGSTER) and entry not in elsewhere and not entry.is_symlink()
            for file in ([entry] if entry.is_file() else entry.rglob("*"))
            if file.is_file() and not _is_part_of(file, places.catalog)
        ]
        _copy_all(files, places.home, copied)
        if files:
            yield "home"

    def _tables(self, places: HomePlaces, copied: CopiedFiles) -> tuple[BackupTable, ...]:
        if not places.catalog.exists():
            return ()
        self.report("catalog and tables")
        return TableCopying(places.catalog, places.warehouse, copied).carry_out()

    def _kafka(self, places: HomePlaces, copied: CopiedFiles) -> Iterator[str]:
        data = places.home / KAFKA
        if self.settings.kafka_bootstrap is None and data.is_dir():
            self.report("Kafka's logs")
            copy_kafka(data, copied, KAFKA)
            yield "kafka"

    def _registry(self, places: HomePlaces, copied: CopiedFiles) -> Iterator[str]:
        directory = places.home / REGISTRY
        if self.settings.registry_url is None and (directory / SCHEMAS).exists():
            self.report("the registry's schemas")
            known = SchemaRegistry(self.settings.schema_registry_url).known_ids if self._registry_runs() else None
            RegistryCopying(directory, JavaArtifacts(places.home / "java"), known).carry_out(copied, REGISTRY)
            yield "registry"

    def _registry_runs(self) -> bool:
        stack = LocalStack.of(self.settings).only(["registry"])
        return any(each.state is ServiceState.RUNNING for each in stack.status())

    def _left_out(self) -> Iterator[str]:
        if self.settings.kafka_bootstrap is not None:
            yield f"Kafka at {self.settings.kafka_bootstrap} (K2_KAFKA_BOOTSTRAP)"
        if self.settings.registry_url is not None:
            yield f"the schema registry at {self.settings.registry_url} (K2_REGISTRY_URL)"
        if self.settings.feeds_dir is not None and not self.settings.feeds_dir.is_relative_to(self.settings.home):
            yield f"the feed files in {self.settings.feeds_dir} (K2_FEEDS_DIR)"

    def _require_own_tables(self, places: HomePlaces) -> None:
        """See that the tables are this home's: a backup of a copy would be of another home's files."""
        if not places.catalog.exists():
            return
        changed = HomeRelocation(open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse))
        foreign = changed.foreign()
        if foreign:
            raise BackupError(f"{foreign[0]}. Nothing was copied: `k2 relocate` first, or back up that home")


def _turn(file: Path, dagster: Path) -> tuple[int, str]:
    """Tell when a file of Dagster's is copied: the smaller the earlier."""
    path = file.relative_to(dagster)
    if path.parts[0] == "schedules":
        return 0, str(path)
    if path.parts[:2] == ("history", "runs"):
        return 1, str(path)
    return (3 if path.parts[0] == "history" else 2), str(path)


def _copy_all(files: Iterable[Path], home: Path, copied: CopiedFiles) -> None:
    """Copy files under their paths in the home; those that go meanwhile were not to stay."""
    for file in files:
        path = str(file.relative_to(home))
        try:
            if file.name.endswith(_BESIDE_A_DATABASE) and is_database(_without_ending(file)):
                continue
            if is_database(file):
                copied.copy_database(file, path)
            else:
                copied.copy(file, path)
        except FileNotFoundError:
            copied.remove(path)


def _without_ending(file: Path) -> Path:
    ending = next(each for each in _BESIDE_A_DATABASE if file.name.endswith(each))
    return file.with_name(file.name.removesuffix(ending))


def _is_part_of(file: Path, database: Path) -> bool:
    return file in (database, *(database.with_name(database.name + each) for each in _BESIDE_A_DATABASE))


def _require_home(places: HomePlaces) -> None:
    found = [each for each in (places.catalog, places.home / KAFKA, places.home / DAGSTER) if each.exists()]
    if not found:
        raise BackupError(f"{places.home} (K2_HOME) is no home of K2's: it has no catalog, no Kafka data, no records")


def _require_apart(directory: Path, places: HomePlaces) -> None:
    real = directory.resolve()
    for each in (places.home, places.warehouse):
        if real.is_relative_to(each.resolve()) or each.resolve().is_relative_to(real):
            raise BackupError(f"{directory} and {each} lie within one another: give the backup a place of its own")


@contextmanager
def _new_directory(directory: Path) -> Iterator[None]:
    """Make a directory for a backup; what was written to it goes again should the backup fail.

    Raises:
        BackupError: It is not empty, or can't be made.
    """
    there = directory.exists()
    if there and (not directory.is_dir() or any(directory.iterdir())):
        known = (directory / FILE_NAME).exists()
        unfinished = (directory / "catalog.db").exists() or (directory / DAGSTER).exists()
        what = "holds a backup" if known else "holds a backup that was not finished" if unfinished else "is not empty"
        raise BackupError(f"{directory} {what}; nothing is ever overwritten. Give another directory, or remove it")
    try:
        make_private(directory)
    except OSError as error:
        raise BackupError(f"{directory} can't be made: {error}") from error
    try:
        yield
    except BaseException:
        for each in directory.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        if not there:
            directory.rmdir()
        raise
