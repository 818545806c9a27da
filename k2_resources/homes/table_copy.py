"""Copies a catalog and the files of all retained snapshots, while commits go on.

The catalog is copied at one moment. Files that it refers to are never changed, but they may go: a table's metadata file
after ten further commits, the others once their snapshot has expired and they have rested for an hour. Metadata files
are therefore copied first; if a file is gone all the same, the catalog is copied again, and what was copied stays.
"""

from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from sqlalchemy import create_engine

from k2_market.homes.backup_manifest import BackupError, BackupTable
from k2_resources.files.file_copy import CopiedFiles
from k2_resources.files.path_names import sqlite_uri
from k2_resources.homes.home_relocation import CatalogRow, rows_of
from k2_resources.homes.table_relocation import TableMove, as_lines
from k2_resources.iceberg.catalog_identity import local_directory
from k2_resources.iceberg.reachable_files import reachable

CATALOG = "catalog.db"
WAREHOUSE = "warehouse"
"""Names of catalog and warehouse in a backup."""

_MOST_TIMES = 10


@dataclass(frozen=True)
class TableCopying:
    """Copies a catalog's tables.

    Attributes:
        catalog: The catalog's SQLite file.
        warehouse: The directory that its tables lie in.
        copied: Where copies go.
    """

    catalog: Path
    warehouse: Path
    copied: CopiedFiles

    def carry_out(self) -> tuple[BackupTable, ...]:
        """Copy the catalog and the files of its tables.

        Raises:
            BackupError: A file stays away that a table needs, or lies elsewhere than in the warehouse; or there is no
                room.
        """
        gone = ""
        for _ in range(_MOST_TIMES):
            try:
                return self._copied()
            except FileNotFoundError as missing:
                gone = str(missing.filename or missing)
        raise BackupError(
            f"{gone} is not there, though the catalog has just named it, {_MOST_TIMES} times over. Is the table "
            "damaged (`k2 verify ledger`)?"
        )

    def _copied(self) -> tuple[BackupTable, ...]:
        self.copied.copy_database(self.catalog, CATALOG)
        engine = create_engine(sqlite_uri(self.copied.directory / CATALOG))
        try:
            rows = rows_of(engine)
        finally:
            engine.dispose()
        wanted = {CATALOG}
        for row in rows:
            wanted.add(self._copy(row.metadata_location))
        tables = []
        for row in rows:
            table = _loaded(row)
            wanted.update(map(self._copy, sorted(reachable(table).needed)))
            tables.append(self._described(row, table))
        for path in [each for each in self.copied.files if _is_of_tables(each) and each not in wanted]:
            self.copied.remove(path)  # of an earlier look, and not needed by what was copied in the end
        for each in tables:
            self._require_whole(each)
        return tuple(tables)

    def _copy(self, location: str) -> str:
        """Copy a file unless it is there; its path in the backup."""
        source = local_directory(location)
        if source is None:
            raise BackupError(f"{location} does not lie on this machine")
        path = f"{WAREHOUSE}/{self._within(source)}"
        if not self.copied.holds(path, source.stat().st_size):
            self.copied.copy(source, path)
        return path

    def _described(self, row: CatalogRow, table: Table) -> BackupTable:
        place = local_directory(table.location())
        assert place is not None
        return BackupTable(
            catalog=row.catalog,
            namespace=row.namespace,
            table=row.table,
            location=table.location(),
            directory=str(self._within(place)),
            metadata_location=row.metadata_location,
        )

    def _within(self, path: Path) -> Path:
        for each, root in ((path, self.warehouse), (path.resolve(), self.warehouse.resolve())):
            if each.is_relative_to(root):
                return each.relative_to(root)
        raise BackupError(
            f"{path} lies outside of the warehouse {self.warehouse}: set K2_WAREHOUSE to the directory that all tables "
            "lie in, or `k2 relocate` a home that was moved or copied"
        )

    def _require_whole(self, table: BackupTable) -> None:
        """See that the copy has all that the table needs, in the sizes that its metadata tells.

        Raises:
            BackupError: It has not.
        """
        missing = list(move_of(table, self.copied.directory / WAREHOUSE, table.location).missing())
        if missing:
            raise BackupError(
                f"{table.namespace}.{table.table} is damaged: {as_lines(missing)}. `k2 verify ledger` says more"
            )


def move_of(table: BackupTable, warehouse: Path, location: str) -> TableMove:
    """Return the move of a table of a backup to a location.

    Args:
        table: The table.
        warehouse: The directory that has its files now.
        location: Where it is to lie.
    """
    return TableMove(
        name=f"{table.namespace}.{table.table}",
        old=table.location,
        new=location,
        directory=warehouse / table.directory,
        metadata_name=table.metadata_location.rpartition("/")[2],
    )


def _loaded(row: CatalogRow) -> Table:
    io = PyArrowFileIO()
    metadata = FromInputFile.table_metadata(io.new_input(row.metadata_location))
    return Table((row.namespace, row.table), metadata, row.metadata_location, io, NoopCatalog("backup"))


def _is_of_tables(path: str) -> bool:
    return path.startswith(f"{WAREHOUSE}/")
