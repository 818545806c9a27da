"""Finds the files that a table's retained snapshots need, and whether each is there."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, TypeVar

import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2_market.verification.file_verification import FileKind, FileState
from k2_market.verification.snapshot_verification import TableHistory
from k2_resources.iceberg.data_files import DataFileLocation, day_of_file
from k2_resources.iceberg.scan_files import of_day
from k2_resources.proofs.table_history import history_of

_LOOK_UPS_AT_ONCE = 8

_T = TypeVar("_T")


@dataclass
class SnapshotFiles:
    """Describes what was found.

    Attributes:
        files: Every file looked up, once.
        current: The data files of the current snapshot; None where its manifests can't be read.
        rows: For each snapshot whose manifests can be read, the rows that they say there are.
    """

    files: list[FileState] = field(default_factory=list)
    current: list[DataFileLocation] | None = None
    rows: dict[int, int] = field(default_factory=dict)

    @property
    def readable(self) -> list[DataFile]:
        """The current snapshot's data files that are whole, in the order of commits."""
        broken = {each.path for each in self.files if not each.whole}
        ordered = sorted(self.current or (), key=lambda each: (each.sequence, each.file.file_path))
        return [each.file for each in ordered if each.file.file_path not in broken]


def snapshot_files(table: Table, day: date | None = None) -> SnapshotFiles:
    """Look up the files of all snapshots that a table keeps.

    Args:
        table: The table.
        day: Look up no data files but those of this trading day; None looks up all.
    """
    search = _Search(table.io)
    found = SnapshotFiles(current=[] if table.metadata.current_snapshot_id is None else None)
    needed: dict[str, tuple[int, DataFile]] = {}
    for snapshot in sorted(table.metadata.snapshots, key=lambda each: each.sequence_number or 0, reverse=True):
        entries = search.data_files(snapshot)
        if entries is None:
            continue
        found.rows[snapshot.snapshot_id] = sum(each.file.record_count for each in entries)
        looked_at = [each for each in entries if day is None or day_of_file(each.file) == day]
        for each in looked_at:
            needed.setdefault(each.file.file_path, (snapshot.snapshot_id, each.file))
        if snapshot.snapshot_id == table.metadata.current_snapshot_id:
            found.current = looked_at
    with ThreadPoolExecutor(_LOOK_UPS_AT_ONCE) as pool:
        files = [*search.found, *pool.map(lambda each: _with_footer(table.io, *each), needed.values())]
    found.files = _still_needed(table, files)
    return found


def structure(table: Table | None, day: date) -> tuple[TableHistory, list[FileState]]:
    """Return a table's history, and the files that reading a trading day of it needs."""
    if table is None:
        return TableHistory(None, (), None), []
    return history_of(table), files_of_day(table, day)


def files_of_day(table: Table, day: date) -> list[FileState]:
    """Return the manifest lists of all snapshots kept, and what the current one needs for a trading day.

    Data files are looked up, not opened.
    """
    found = [
        _looked_up(table.io, each.manifest_list, FileKind.MANIFEST_LIST, each.snapshot_id)
        for each in table.metadata.snapshots
    ]
    current = table.current_snapshot()
    if current is None:
        return found
    (listed,) = (each for each in found if each.snapshot_id == current.snapshot_id)
    found.remove(listed)
    listed, manifests = _read(listed, lambda: current.manifests(table.io))
    looked_up = [_manifest(table.io, current.snapshot_id, each) for each in manifests or ()]
    if all(each.whole for each in (listed, *looked_up)):
        scan = table.scan(row_filter=of_day(day))
        listed, files = _read(listed, lambda: [task.file for task in scan.plan_files()])
        looked_up += [_data_file(table.io, current.snapshot_id, each) for each in files or ()]
    return _still_needed(table, [*found, listed, *looked_up])


def _still_needed(table: Table, files: list[FileState]) -> list[FileState]:
    """Return the files without those that were cleaned up since the table was loaded."""
    if all(each.whole for each in files):
        return files
    kept = {each.snapshot_id for each in table.catalog.load_table(table.name()).metadata.snapshots}
    return [each for each in files if each.whole or each.snapshot_id in kept]


@dataclass
class _Search:
    """Goes through snapshots; manifests that they share are read once."""

    io: FileIO
    found: list[FileState] = field(default_factory=list)
    manifests: dict[str, list[DataFileLocation] | None] = field(default_factory=dict)

    def data_files(self, snapshot: Snapshot) -> list[DataFileLocation] | None:
        """Return a snapshot's data files; None where not all of its manifests can be read."""
        listed = _looked_up(self.io, snapshot.manifest_list, FileKind.MANIFEST_LIST, snapshot.snapshot_id)
        listed, manifests = _read(listed, lambda: snapshot.manifests(self.io))
        self.found.append(listed)
        if manifests is None:
            return None
        parts = [self._entries(snapshot, each) for each in manifests]
        return None if None in parts else [each for part in parts for each in part or ()]

    def _entries(self, snapshot: Snapshot, manifest: ManifestFile) -> list[DataFileLocation] | None:
        path = manifest.manifest_path
        if path not in self.manifests:
            looked_up = _manifest(self.io, snapshot.snapshot_id, manifest)
            looked_up, self.manifests[path] = _read(looked_up, lambda: _placed(manifest, self.io))
            self.found.append(looked_up)
        return self.manifests[path]


def _placed(manifest: ManifestFile, io: FileIO) -> list[DataFileLocation]:
    return [DataFileLocation(each.sequence_number or 0, each.data_file) for each in manifest.fetch_manifest_entry(io)]


def _read(found: FileState, content: Callable[[], _T]) -> tuple[FileState, _T | None]:
    """Tell what a file holds, if it is whole; and the file, with why it can't be read."""
    if not found.whole:
        return found, None
    try:
        return found, content()
    except Exception as fault:  # damaged bytes make the readers raise whatever they happen to run into
        return replace(found, fault=repr(fault)), None


def _manifest(io: FileIO, snapshot_id: int, manifest: ManifestFile) -> FileState:
    return _looked_up(io, manifest.manifest_path, FileKind.MANIFEST, snapshot_id, bytes_said=manifest.manifest_length)


def _with_footer(io: FileIO, snapshot_id: int, file: DataFile) -> FileState:
    found, rows = _read(_data_file(io, snapshot_id, file), lambda: _rows_by_footer(io, file))
    return replace(found, rows_found=rows)


def _data_file(io: FileIO, snapshot_id: int, file: DataFile) -> FileState:
    return _looked_up(
        io,
        file.file_path,
        FileKind.DATA if file.content is DataFileContent.DATA else FileKind.DELETES,
        snapshot_id,
        bytes_said=file.file_size_in_bytes,
        rows_said=file.record_count,
        day=day_of_file(file),
    )


def _rows_by_footer(io: FileIO, file: DataFile) -> int:
    with io.new_input(file.file_path).open() as opened:
        return int(pq.read_metadata(opened).num_rows)


def _looked_up(io: FileIO, path: str, kind: FileKind, snapshot_id: int, **said: Any) -> FileState:
    try:
        size: int | None = len(io.new_input(path))
    except FileNotFoundError:
        size = None
    return FileState(path=path, kind=kind, snapshot_id=snapshot_id, bytes_found=size, **said)
