"""Lists the data files of a table's current snapshot: each with its commit and its trading day."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class DataFileLocation:
    """A data file and the number of the commit that added it."""

    sequence: int
    file: DataFile


def live_files(table: Table) -> list[DataFileLocation]:
    """Return the data files of a table's current snapshot; reads its manifests, no data."""
    snapshot = table.current_snapshot()
    manifests = [] if snapshot is None else snapshot.manifests(table.io)
    return [
        DataFileLocation(entry.sequence_number or 0, entry.data_file)
        for manifest in manifests
        if manifest.has_added_files() or manifest.has_existing_files()
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]


def day_of_file(file: DataFile) -> date | None:
    """Return the trading day whose rows a data file holds."""
    value: Any = file.partition[0] if len(file.partition) else None
    return _EPOCH + timedelta(days=value) if isinstance(value, int) else value
