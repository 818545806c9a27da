"""Checks that a table's layout has not changed between the writing of data files and their commit.

If it has, their rows are read again and written to new files.
"""

import uuid
from dataclasses import dataclass

from pyiceberg.table import Table

from k2_market.plans.orphan_files import CLEANINGS


@dataclass(frozen=True)
class Layout:
    """Describes how a table lies.

    Attributes:
        table_uuid: The table itself; another of the same name may have taken its place.
        location: Where its files go.
        schema_id: Its columns.
        spec_id: Its partitions.
        cleanings: How often files that nothing referred to were deleted of it. What was written before the last time
            may be gone, or about to go.
    """

    table_uuid: uuid.UUID
    location: str
    schema_id: int
    spec_id: int
    cleanings: int = 0

    @classmethod
    def of(cls, table: Table) -> "Layout":
        """Read it from a table as it was loaded."""
        metadata = table.metadata
        return cls(
            metadata.table_uuid,
            metadata.location,
            metadata.current_schema_id,
            metadata.default_spec_id,
            cleanings_of(table),
        )


def cleanings_of(table: Table) -> int:
    """Tell how often files were cleaned away of a table, by its property."""
    return int(table.properties.get(CLEANINGS, 0))
