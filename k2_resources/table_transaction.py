"""A transaction whose cost does not grow with every look that pyiceberg takes at the table's metadata.

pyiceberg works out the metadata with a transaction's changes, and copies all of it, each time that it looks at it:
more than twenty times a commit, each time every snapshot that the table keeps. Here it is worked out once after each
change, and nothing is copied: what did not change is the table's own, which nobody changes in place. What is committed
is worked out by the catalog, from the changes.
"""

from typing import Any

from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate, _apply_table_update, _TableMetadataUpdateContext


class TableTransaction(Transaction):
    """Changes to a table that are committed together; to be used where ``table.transaction()`` would be."""

    def __init__(self, table: Table, autocommit: bool = False) -> None:
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


def _changed(metadata: TableMetadata, updates: tuple[TableUpdate, ...]) -> TableMetadata:
    context = _TableMetadataUpdateContext()
    for update in updates:
        metadata = _apply_table_update(update, metadata, context)
    return metadata
