"""Makes the tables of a catalog belong to its home again, after the home was moved or copied.

All metadata is written first, under new names; then the catalog's rows are switched in one transaction. Until then the
catalog is the old one, and whatever was written for nothing is left to the orphan cleaner.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog.sql import IcebergTables
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadata
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from k2_market.errors import K2Error
from k2_market.homes.relocation_plan import Action, Decision, TableFacts, decide_all
from k2_market.homes.table_ownership import MARK, Owner, lies_within
from k2_resources.homes.table_relocation import NotRelocatable, TableMove, as_lines, next_metadata_name
from k2_resources.iceberg.catalog_identity import catalog_in_use, local_directory, same_place
from k2_resources.iceberg.owned_catalog import OwnedCatalog
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.logs.structured_logging import get_logger
from k2_resources.runtime import crash_points

_log = get_logger("relocation")


class RelocationRefused(K2Error):
    """Tables can't be made this home's own; nothing was changed."""


class CatalogChanged(K2Error):
    """Another process changed the catalog while tables were being relocated; nothing was changed."""


@dataclass(frozen=True)
class CatalogRow:
    """A table as the catalog's database has it."""

    catalog: str
    namespace: str
    table: str
    metadata_location: str

    @property
    def name(self) -> str:
        """The table, as ``asx.ohlcv_1d``."""
        return f"{self.namespace}.{self.table}"


@dataclass(frozen=True)
class RelocationPlan:
    """Describes what relocating would do.

    Attributes:
        decisions: For each table of the catalog.
        rows: The tables as the catalog had them.
        moves: Of the tables whose metadata is to be written anew.
    """

    decisions: tuple[Decision, ...]
    rows: Mapping[str, CatalogRow]
    moves: Mapping[str, TableMove]

    @property
    def changed(self) -> list[str]:
        """Names of the tables that would be changed."""
        return [each.name for each in self.decisions if each.action is not Action.LEAVE]


class HomeRelocation:
    """Relocates a catalog's tables to its warehouse.

    Args:
        catalog: The catalog, whose warehouse the tables are to lie in.
    """

    def __init__(self, catalog: OwnedCatalog) -> None:
        self._catalog = catalog
        self._warehouse = str(catalog.owner.warehouse)

    def plan(self, *, take_over: bool = False) -> RelocationPlan:
        """Say what is to be done, and change nothing.

        Args:
            take_over: Whether whoever asks says that no other catalog uses the tables any more.

        Raises:
            RelocationRefused: A table can't be made this home's own; names each and why.
            NotRelocatable: A table's metadata can't be read, or can't be written for another place.
            CatalogUnavailable: The catalog does not answer.
        """
        with translate_errors("the catalog's tables", "listing"):
            rows = rows_of(self._catalog.engine)
        looked = {row.name: self._looked_at(row) for row in rows}
        facts = [each for each, _ in looked.values()]
        decisions = decide_all(facts, self._catalog.owner.catalog, take_over=take_over)
        refusals = [each.refusal for each in decisions if each.refusal is not None]
        if refusals:
            more = f" And {len(refusals) - 1} more tables." if len(refusals) > 1 else ""
            raise RelocationRefused(f"{refusals[0]}.{more} Nothing was changed")
        moved = {each.name for each in decisions if each.action is Action.MOVE}
        return RelocationPlan(
            decisions=tuple(decisions),
            rows={row.name: row for row in rows},
            moves={name: move for name, (_, move) in looked.items() if name in moved and move is not None},
        )

    def foreign(self) -> list[str]:
        """Tell why tables that the catalog names are another home's, for each that is.

        Raises:
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A table's metadata can't be read.
        """
        with translate_errors("the catalog's tables", "listing"):
            rows = rows_of(self._catalog.engine)
        found = (self._catalog.why_not(row.name, self._metadata(row)) for row in rows)
        return [each for each in found if each is not None]

    def carry_out(self, *, take_over: bool = False) -> RelocationPlan:
        """Relocate what is to be relocated, all of it or nothing.

        Raises:
            CatalogChanged: Another process changed the catalog meanwhile; nothing was changed.
            WarehouseUnavailable: A file can't be read or written; nothing was changed.
            K2Error: As ``plan``.
        """
        plan = self.plan(take_over=take_over)
        mark = self._catalog.owner.mark
        changes = []
        for name in plan.changed:
            row, move = plan.rows[name], plan.moves.get(name)
            with translate_errors(name, "relocating"):
                changes.append((row, self._marked(row, mark) if move is None else move.carry_out(mark)))
            crash_points.reached("relocated_half")
        crash_points.reached("before_relocation")
        with translate_errors("the catalog's tables", "relocating"):
            switch(self._catalog.engine, changes)
        crash_points.reached("after_relocation")
        _log.info("tables relocated", tables=plan.changed, warehouse=self._warehouse)
        return plan

    def _looked_at(self, row: CatalogRow) -> tuple[TableFacts, TableMove | None]:
        inside = lies_within(same_place(row.metadata_location), same_place(self._warehouse))
        move = None if inside else self._move(row)
        if move is not None and not move.metadata_file.exists():
            missing = f"{move.metadata_file} is not there"
            return TableFacts(row.name, move.old, lies_inside=False, marked_by=None, missing=missing), move
        metadata = self._metadata(row) if move is None else move.metadata
        mark = metadata.properties.get(MARK)
        marked = None if mark is None else Owner.of_mark(mark)
        marked_by = mark if mark is not None and marked is None else None if marked is None else marked.catalog
        return (
            TableFacts(
                name=row.name,
                place=metadata.location,
                lies_inside=inside,
                marked_by=marked_by,
                other_in_use=None if marked is None else catalog_in_use(marked.catalog),
                shared=move is not None and _is_one_directory(metadata.location, move.directory),
                missing="" if move is None else as_lines(move.missing()),
            ),
            move,
        )

    def _move(self, row: CatalogRow) -> TableMove:
        """Tell how a table would come to lie in our warehouse.

        Raises:
            NotRelocatable: It can't be told, or is not supported.
        """
        directory, _, metadata_name = row.metadata_location.rpartition("/metadata/")
        root = local_directory(self._warehouse)
        if root is None or local_directory(row.metadata_location) is None:
            raise NotRelocatable(
                f"{row.name} lies at {directory or row.metadata_location}, outside of the warehouse {self._warehouse}: "
                "tables are moved between directories of a machine only. In an object store the paths in their "
                "metadata can't be changed by K2: give the new warehouse the old one's name (bucket and prefix), and "
                "take the tables over with `k2 relocate --take-over`"
            )
        within = f"{row.namespace.replace('.', '/')}/{row.table}"
        if not directory.endswith(f"/{within}"):
            raise NotRelocatable(
                f"{row.name} lies at {directory or row.metadata_location}, which does not end with {within}: it can't "
                f"be told where its files are in {self._warehouse}"
            )
        return TableMove(row.name, directory, f"{self._warehouse.rstrip('/')}/{within}", root / within, metadata_name)

    def _metadata(self, row: CatalogRow) -> TableMetadata:
        with translate_errors(row.name, "loading"):
            return FromInputFile.table_metadata(self._io.new_input(row.metadata_location))

    def _marked(self, row: CatalogRow, mark: str) -> str:
        """Return the metadata of a table that stays where it is, with another mark; its location."""
        metadata = self._metadata(row)
        changed = metadata.model_copy(update={"properties": {**metadata.properties, MARK: mark}})
        directory, _, name = row.metadata_location.rpartition("/")
        location = f"{directory}/{next_metadata_name(name)}"
        with self._io.new_output(location).create() as stream:
            stream.write(changed.model_dump_json().encode())
        return location

    @property
    def _io(self) -> PyArrowFileIO:
        return PyArrowFileIO(self._catalog.properties)


def rows_of(engine: Engine) -> list[CatalogRow]:
    """Return the tables of a catalog's database, by name.

    Raises:
        SQLAlchemyError: The database can't be asked.
    """
    with Session(engine) as session:
        found = session.execute(
            select(
                IcebergTables.catalog_name,
                IcebergTables.table_namespace,
                IcebergTables.table_name,
                IcebergTables.metadata_location,
            )
        ).all()
    return sorted((CatalogRow(*row) for row in found), key=lambda row: row.name)


def switch(engine: Engine, changes: Sequence[tuple[CatalogRow, str]]) -> None:
    """Have the catalog name other metadata files, all of them or none.

    Raises:
        CatalogChanged: A table is not as it was; nothing was changed.
        SQLAlchemyError: The database can't be written.
    """
    with Session(engine) as session, session.begin():
        for row, location in changes:
            done = session.execute(
                update(IcebergTables)
                .where(
                    IcebergTables.catalog_name == row.catalog,
                    IcebergTables.table_namespace == row.namespace,
                    IcebergTables.table_name == row.table,
                    IcebergTables.metadata_location == row.metadata_location,
                )
                .values(metadata_location=location, previous_metadata_location=None)
            )
            if _changed_rows(done) != 1:
                raise CatalogChanged(
                    f"{row.name}: another process changed it while it was being relocated. Nothing was changed; stop "
                    "what runs on this home, and run it again"
                )


def _changed_rows(done: object) -> int:
    return int(getattr(done, "rowcount", 0))


def _is_one_directory(location: str, directory: Path) -> bool:
    """Say whether a table's old and new place are one directory under two names, as of a mount."""
    old = local_directory(location)
    return old is not None and old.exists() and directory.exists() and os.path.samefile(old, directory)
