"""Commits to Iceberg tables of this home alone: the one SQL catalog class through which every commit goes.

A table that is another home's (``k2_market.homes.table_ownership``) can be read; its files can't be written or deleted
through it, nor anything committed to it. A table that is ours gets our mark with its next commit, if it has none.

A commit is refused when anyone committed since the table was loaded. pyiceberg asks that of snapshots alone: a commit
of properties would pass, and take back what another writer has set.
"""

from functools import cached_property
from typing import Literal, NoReturn, cast

from pyiceberg.catalog import WAREHOUSE_LOCATION
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.table import CommitTableResponse, StagedTable, Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
    ValidatableTableRequirement,
)
from pyiceberg.typedef import Identifier, Properties

from k2_market.errors import K2Error
from k2_market.homes.table_ownership import MARK, Owner, TablePlace, refusal, why_not
from k2_resources.iceberg.catalog_identity import identity_of, same_place


class ForeignTable(K2Error):
    """A table that is another home's was to be written to; nothing was."""


class ForeignFiles(PyArrowFileIO):
    """The files of a table that is another home's: they can be read, and not written or deleted."""

    def __init__(self, properties: Properties, reason: str) -> None:
        super().__init__(properties)
        self.reason = reason

    def new_output(self, location: str) -> PyArrowFile:
        """Refuse to write a file."""
        self._refuse(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Refuse to delete a file."""
        self._refuse(location if isinstance(location, str) else location.location)

    def _refuse(self, location: str) -> NoReturn:
        raise ForeignTable(f"{refusal(self.reason)}. The file was {location}")


class OwnedCatalog(SqlCatalog):
    """pyiceberg's SQL catalog, for its own tables."""

    @cached_property
    def owner(self) -> Owner:
        """Tell who this catalog is.

        Raises:
            SQLAlchemyError: Its database can't be asked.
        """
        return Owner(identity_of(self.engine), self._warehouse)

    def why_not(self, identifier: str | Identifier, metadata: TableMetadata) -> str | None:
        """Say why this catalog may not write to a table; None if it may."""
        return why_not(place_of(identifier, metadata), self.owner, same_place(self._warehouse))

    def load_table(self, identifier: str | Identifier) -> Table:
        """Load a table as it stands now; one that is another home's can't be written through."""
        table = super().load_table(identifier)
        reason = self.why_not(table.name(), table.metadata)
        if reason is not None:
            table.io = ForeignFiles(table.io.properties, reason)
        return table

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit changes to a table.

        Raises:
            ForeignTable: It is another home's.
            CommitFailedException: Another commit was made since the table was loaded, or it has been dropped.
        """
        if not isinstance(table, StagedTable):
            # Of pyiceberg's own kind, but not among those that its type lists.
            loaded_from = cast("TableRequirement", _LoadedFrom(metadata_location=table.metadata_location))
            requirements = (*requirements, loaded_from)
        return super().commit_table(table, requirements, updates)

    def purge_table(self, identifier: str | Identifier) -> None:
        """Drop a table and delete its files.

        Raises:
            ForeignTable: It is another home's.
        """
        require_own(self.load_table(identifier))
        super().purge_table(identifier)

    def _update_and_stage_table(
        self,
        current_table: Table | None,
        table_identifier: Identifier,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> StagedTable:
        """Work out what is committed; pyiceberg has loaded the table for that, and has written nothing yet."""
        if current_table is not None:
            self._require_own(table_identifier, current_table.metadata)
            for each in requirements:
                if isinstance(each, _LoadedFrom):
                    require_unchanged(table_identifier, each.metadata_location, current_table.metadata_location)
        if current_table is None or current_table.properties.get(MARK) != self.owner.mark:
            updates = (*updates, SetPropertiesUpdate(updates={MARK: self.owner.mark}))
        staged = super()._update_and_stage_table(current_table, table_identifier, requirements, updates)
        self._require_own(table_identifier, staged.metadata)
        return staged

    def _resolve_table_location(self, location: str | None, database_name: str, table_name: str) -> str:
        """Say where a new table is to lie, which pyiceberg asks before it writes anything of it."""
        resolved = super()._resolve_table_location(location, database_name, table_name)
        place = TablePlace(f"{database_name}.{table_name}", (same_place(resolved),), None)
        reason = why_not(place, self.owner, same_place(self._warehouse))
        if reason is not None:
            raise ForeignTable(refusal(reason))
        return resolved

    def _require_own(self, identifier: str | Identifier, metadata: TableMetadata) -> None:
        reason = self.why_not(identifier, metadata)
        if reason is not None:
            raise ForeignTable(refusal(reason))

    @property
    def _warehouse(self) -> str:
        return str(self.properties[WAREHOUSE_LOCATION])


class _LoadedFrom(ValidatableTableRequirement):
    """Has a commit be refused unless the table is where its writer has loaded it from."""

    type: Literal["k2-loaded-from"] = "k2-loaded-from"
    metadata_location: str

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        """Ask nothing of the metadata: it does not know where it lies, the catalog does."""


def require_own(table: Table) -> None:
    """See that a table is this home's, before anything is written for it.

    Raises:
        ForeignTable: It is another home's.
    """
    reason = why_foreign(table)
    if reason is not None:
        raise ForeignTable(refusal(reason))


def why_foreign(table: Table) -> str | None:
    """Tell why a table, as it was loaded, is another home's; None if it is ours."""
    return table.io.reason if isinstance(table.io, ForeignFiles) else None


def require_unchanged(identifier: str | Identifier, loaded_from: str, lies_at: str) -> None:
    """See that nobody committed since a table was loaded.

    Args:
        identifier: The table's name.
        loaded_from: The metadata file that its writer knows.
        lies_at: The metadata file that the catalog names now.

    Raises:
        CommitFailedException: They are not the same.
    """
    if loaded_from != lies_at:
        raise CommitFailedException(f"{_named(identifier)} has been updated by another process since it was loaded")


def place_of(identifier: str | Identifier, metadata: TableMetadata) -> TablePlace:
    """Tell where a table lies, and whose mark it bears."""
    properties = metadata.properties
    elsewhere = (properties.get(key) for key in (TableProperties.WRITE_DATA_PATH, TableProperties.WRITE_METADATA_PATH))
    locations = (metadata.location, *(each for each in elsewhere if each))
    return TablePlace(_named(identifier), tuple(map(same_place, locations)), properties.get(MARK))


def _named(identifier: str | Identifier) -> str:
    return identifier if isinstance(identifier, str) else ".".join(identifier)
