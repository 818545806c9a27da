"""Rewrites the paths in a table's metadata for another place.

Iceberg's metadata names files by absolute paths, in three layers: the metadata file names manifest lists, those name
manifests, and those name data files. All three are written anew under new names, beside the old ones; data files stay
as they are. Snapshots, sequence numbers, tags and statistics stay too, so that time travel goes on. The log of earlier
metadata files begins anew, since those name the old place.
"""

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import fastavro
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import TableProperties
from pyiceberg.table.metadata import TableMetadata

from k2_market.errors import K2Error
from k2_market.homes.table_ownership import MARK

_DATA = 0
"""Iceberg's ``content`` of a file that holds rows, not deletions."""

_METADATA_FILE = re.compile(r"(\d+)-.*\.metadata\.json")
_PLACES = (TableProperties.WRITE_DATA_PATH, TableProperties.WRITE_METADATA_PATH)
_HEADERS_OF_AVRO = frozenset({"avro.schema", "avro.codec"})


class NotRelocatable(K2Error):
    """A table's metadata can't be written for another place; nothing was changed."""


@dataclass(frozen=True)
class MissingFile:
    """A file that a table refers to and that is not there, or has another size than was written."""

    path: Path
    why: str


@dataclass(frozen=True)
class TableMove:
    """A table on its way to another place.

    Attributes:
        name: The table, as ``asx.ohlcv_1d``.
        old: Its location, as its metadata says.
        new: Its location from then on.
        directory: Where its files are now, which is not ``new`` while a backup is being restored.
        metadata_name: The name of the metadata file that the catalog names.
    """

    name: str
    old: str
    new: str
    directory: Path
    metadata_name: str

    @cached_property
    def metadata(self) -> TableMetadata:
        """Its metadata as it was.

        Raises:
            NotRelocatable: The file is none.
            FileNotFoundError: It is not there.
        """
        try:
            return FromInputFile.table_metadata(PyArrowFileIO().new_input(str(self.metadata_file)))
        except ValueError as broken:
            raise NotRelocatable(f"{self.name}: {self.metadata_file} is no metadata file: {broken}") from broken

    @property
    def metadata_file(self) -> Path:
        """Tell where its metadata file is now."""
        return self.directory / "metadata" / self.metadata_name

    def missing(self) -> Iterator[MissingFile]:
        """Yield files that a retained snapshot needs and that are not there as they were written.

        Raises:
            NotRelocatable: A path lies outside of the table's old place, or a file lists rows to be left out.
        """
        for path, size in self._needed().items():
            try:
                found = path.stat().st_size
            except FileNotFoundError:
                yield MissingFile(path, "is not there")
                continue
            if size is not None and found != size:
                yield MissingFile(path, f"has {found:,} bytes in place of {size:,}")

    def carry_out(self, mark: str) -> str:
        """Write the metadata for the new place; the metadata file's new location. What was there is left as it is.

        Args:
            mark: The property ``k2.owner`` that the table is to have from then on.

        Raises:
            NotRelocatable: As ``missing``.
            OSError: A file can't be read or written.
        """
        manifests: dict[str, tuple[str, int]] = {}
        lists = {each.manifest_list: self._written_list(each.manifest_list, manifests) for each in self._snapshots}
        metadata = self.metadata
        changed = {
            "location": self.new,
            "properties": self._properties(mark),
            "snapshots": [
                each.model_copy(update={"manifest_list": lists[each.manifest_list]}) for each in self._snapshots
            ],
            "metadata_log": [],
            "statistics": [self._moved_statistics(each) for each in metadata.statistics],
            "partition_statistics": [self._moved_statistics(each) for each in metadata.partition_statistics],
        }
        name = next_metadata_name(self.metadata_name)
        text = metadata.model_copy(update=changed).model_dump_json()
        _write(self.directory / "metadata" / name, lambda stream: stream.write(text.encode()))
        return f"{self.new}/metadata/{name}"

    @property
    def _snapshots(self) -> list[Any]:
        return list(self.metadata.snapshots)

    def _needed(self) -> dict[Path, int | None]:
        """Return files by where they are now, with their sizes where the metadata tells."""
        found: dict[Path, int | None] = {}
        for each in (*self.metadata.statistics, *self.metadata.partition_statistics):
            found[self._here(each.statistics_path)] = each.file_size_in_bytes
        for snapshot in self._snapshots:
            here = self._here(snapshot.manifest_list)
            if here in found:
                continue
            found[here] = None
            if not here.exists():
                continue
            for manifest in _records(here).records:
                self._add_manifest(manifest, found)
        return found

    def _add_manifest(self, manifest: Mapping[str, Any], found: dict[Path, int | None]) -> None:
        here = self._here(manifest["manifest_path"])
        if here in found:
            return
        found[here] = manifest["manifest_length"]
        if not here.exists():
            return
        for entry in _records(here).records:
            file = entry["data_file"]
            if entry["status"] != ManifestEntryStatus.DELETED:
                found[self._here(file["file_path"])] = file["file_size_in_bytes"]

    def _written_list(self, manifest_list: str, manifests: dict[str, tuple[str, int]]) -> str:
        """Return a manifest list for the new place, and the manifests that it names; its location."""
        read = _records(self._here(manifest_list))
        for manifest in read.records:
            path = manifest["manifest_path"]
            if path not in manifests:
                manifests[path] = self._written_manifest(path)
            manifest["manifest_path"], manifest["manifest_length"] = manifests[path]
        return self._written(read, f"snap-{uuid.uuid4()}.avro")[0]

    def _written_manifest(self, path: str) -> tuple[str, int]:
        read = _records(self._here(path))
        for entry in read.records:
            file = entry["data_file"]
            if file.get("content", _DATA) != _DATA:
                raise NotRelocatable(
                    f"{self.name}: {path} lists a file of rows to be left out, which K2 does not write and which names "
                    "files by their paths. Have the engine that wrote it rewrite the table's data files first"
                )
            file["file_path"] = self._there(file["file_path"])
        return self._written(read, f"{uuid.uuid4()}-m0.avro")

    def _written(self, content: "_Records", name: str) -> tuple[str, int]:
        path = self.directory / "metadata" / name
        _write(
            path,
            lambda stream: fastavro.writer(
                stream, content.schema, content.records, codec=content.codec, metadata=dict(content.headers)
            ),
        )
        return f"{self.new}/metadata/{name}", path.stat().st_size

    def _properties(self, mark: str) -> dict[str, str]:
        moved = {key: self._there(value) for key, value in self.metadata.properties.items() if key in _PLACES}
        return {**self.metadata.properties, **moved, MARK: mark}

    def _moved_statistics(self, statistics: Any) -> Any:
        return statistics.model_copy(update={"statistics_path": self._there(statistics.statistics_path)})

    def _here(self, path: str) -> Path:
        return self.directory / self._within(path)

    def _there(self, path: str) -> str:
        return f"{self.new}/{self._within(path)}"

    def _within(self, path: str) -> str:
        """Return a path within the table's place.

        Raises:
            NotRelocatable: It lies outside.
        """
        if not path.startswith(f"{self.old}/"):
            raise NotRelocatable(
                f"{self.name} refers to {path}, which lies outside of the table's place {self.old}: it can't be told "
                "where that file is now"
            )
        return path.removeprefix(f"{self.old}/")


@dataclass(frozen=True)
class _Records:
    """An Avro file's content.

    Attributes:
        schema: As it was written.
        records: Its records, which may be changed.
        codec: How they are compressed.
        headers: What else the file's header says, Iceberg's own among it.
    """

    schema: Any
    records: list[dict[str, Any]]
    codec: str
    headers: Mapping[str, str] = field(default_factory=dict)


def _records(path: Path) -> _Records:
    with path.open("rb") as stream:
        reader = fastavro.reader(stream)
        records: list[Any] = list(reader)
        headers = {key: value for key, value in reader.metadata.items() if key not in _HEADERS_OF_AVRO}
        return _Records(reader.writer_schema, records, reader.codec, headers)


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file that lasts, before anything names it."""
    with path.open("xb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())


def next_metadata_name(metadata_name: str) -> str:
    """Return a name for the metadata file after another one, as catalogs number them."""
    found = _METADATA_FILE.fullmatch(metadata_name)
    return f"{int(found.group(1)) + 1 if found else 0:05d}-{uuid.uuid4()}.metadata.json"


def as_lines(missing: Iterable[MissingFile], most: int = 5) -> str:
    """Return missing files as part of a sentence: the first few, and how many more."""
    found = list(missing)
    shown = ", ".join(f"{each.path} {each.why}" for each in found[:most])
    return shown + (f", and {len(found) - most:,} more" if len(found) > most else "")
