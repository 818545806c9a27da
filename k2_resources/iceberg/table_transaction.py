"""Makes every commit of K2: to a table of this home, with data files that exist.

Before anything is written for it, the table has to be this home's; before it goes to the catalog, every data file that
it adds is looked up. Its cost does not grow with every look that pyiceberg takes at the table's metadata:
pyiceberg works out the metadata with a transaction's changes, and copies all of it, each time that it looks at it:
more than twenty times a commit, each time every snapshot that the table keeps. Here it is worked out once after each
change, and nothing is copied: what did not change is the table's own, which nobody changes in place. What is committed
is worked out by the catalog, from the changes.
"""

from typing import Any

from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate, _apply_table_update, _TableMetadataUpdateContext

from k2_resources.iceberg.owned_catalog import require_own
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.iceberg.whole_files import require_whole


class TableTransaction(Transaction):
    """Changes to a table that are committed together; to be used where ``table.transaction()`` would be."""

    def __init__(self, table: Table, autocommit: bool = False) -> None:
        """Begin a transaction.

        Raises:
            ForeignTable: The table is another home's.
        """
        require_own(table)
        super().__init__(table, autocommit)
        self._worked_out: tuple[Any, Any, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with the changes so far, which pyiceberg reads and never changes in place."""
        base, updates = self._table.metadata, self._updates
        if not updates:
            return base
        if self._worked_out is None or self._worked_out[0] is not base or self._worked_out[1] is not updates:
            self._worked_out = (base, updates, _changed(base, updates))
        return self._worked_out[2]

    def commit_transaction(self) -> Table:
        """Commit the changes, once.

        Raises:
            FilesGone: A data file that it adds is not there, or not as it was written; nothing was sent.
            WarehouseUnavailable: They can't be looked up; nothing was sent.
            ForeignTable: The table is another home's; nothing was sent.
            CommitFailedException: Another commit was made since the table was loaded.
        """
        table = ".".join(self._table.name())
        added = [file for each in self._snapshot_producers for file in each._added_data_files]
        with translate_errors(table, "looking up files of"):
            require_whole(table, self._table.io, added)
        return super().commit_transaction()


def _changed(metadata: TableMetadata, updates: tuple[TableUpdate, ...]) -> TableMetadata:
    context = _TableMetadataUpdateContext()
    for update in updates:
        metadata = _apply_table_update(update, metadata, context)
    return metadata
