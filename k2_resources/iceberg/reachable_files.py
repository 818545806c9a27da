"""Lists the files that a table refers to: by its metadata, its retained snapshots, and their manifests."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.manifest import ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table


@dataclass(frozen=True)
class Reachable:
    """Locations that a table refers to.

    Attributes:
        needed: Those without which a retained snapshot can't be read.
        noted: Those that are only noted: earlier metadata files, and files that a retained manifest lists as removed.
    """

    needed: frozenset[str]
    noted: frozenset[str]


def reachable(table: Table) -> Reachable:
    """Return all files that a table refers to; a snapshot that can't be followed is an error, never left out."""
    metadata = table.metadata
    statistics = [each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)]
    needed = {table.metadata_location, *statistics}
    noted = {entry.metadata_file for entry in metadata.metadata_log}
    for manifest in _manifests(table):
        needed.add(manifest.manifest_path)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            files = noted if entry.status == ManifestEntryStatus.DELETED else needed
            files.add(entry.data_file.file_path)
    needed |= {snapshot.manifest_list for snapshot in metadata.snapshots}
    return Reachable(frozenset(needed), frozenset(noted - needed))


def _manifests(table: Table) -> Iterator[ManifestFile]:
    """Yield the manifests of all retained snapshots, each once."""
    seen: set[str] = set()
    for snapshot in table.metadata.snapshots:
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                yield manifest
