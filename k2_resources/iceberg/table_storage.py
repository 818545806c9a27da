"""Lists and deletes files under a table's location, on a disk or in an object store."""

import uuid
from datetime import UTC, datetime

import pyarrow.fs as pafs
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2_market.plans.orphan_files import StoredFile
from k2_resources.iceberg.owned_catalog import require_own

_PROBE = "metadata/k2-clock-"


class TableStorage:
    """Lists, reads, writes and deletes a table's files; paths are within its location.

    What writes or deletes raises ``ForeignTable`` where the table is another home's.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        io = PyArrowFileIO(table.io.properties)
        scheme, netloc, path = io.parse_location(table.location(), io.properties)
        self._filesystem: pafs.FileSystem = io.fs_by_scheme(scheme, netloc)
        self._root = path.rstrip("/")

    def path_of(self, location: str) -> str | None:
        """Return the path of a file that the table names; None where it lies outside of the table's location."""
        *_, path = PyArrowFileIO.parse_location(location)
        return path.removeprefix(f"{self._root}/") if path.startswith(f"{self._root}/") else None

    def encloses(self, location: str) -> bool:
        """Say whether another table's location is this one's or lies within it."""
        *_, path = PyArrowFileIO.parse_location(location)
        return f"{path.rstrip('/')}/".startswith(f"{self._root}/")

    def files(self) -> tuple[StoredFile, ...]:
        """Return all files under the table's location."""
        selector = pafs.FileSelector(self._root, recursive=True, allow_not_found=True)
        return tuple(
            StoredFile(found.path.removeprefix(f"{self._root}/"), found.size, found.mtime.astimezone(UTC))
            for found in self._filesystem.get_file_info(selector)
            if found.type == pafs.FileType.File
        )

    def exists(self, path: str) -> bool:
        """Say whether a file is there."""
        return bool(self._filesystem.get_file_info(f"{self._root}/{path}").type == pafs.FileType.File)

    def now(self) -> datetime:
        """Return the time by the clock that files' times are of, which in an object store is not this machine's.

        A small file is written to see what time it gets, and deleted again.
        """
        probe = f"{_PROBE}{uuid.uuid4()}"
        self.write(probe, "")
        written: datetime = self._filesystem.get_file_info(f"{self._root}/{probe}").mtime
        self.delete(probe)
        return written.astimezone(UTC)

    def read(self, path: str) -> str:
        """Return a file's text; nothing where there is no such file."""
        try:
            with self._filesystem.open_input_stream(f"{self._root}/{path}") as stream:
                return bytes(stream.read()).decode()
        except FileNotFoundError:
            return ""

    def write(self, path: str, text: str) -> None:
        """Write a file anew."""
        require_own(self._table)
        with self._filesystem.open_output_stream(f"{self._root}/{path}") as stream:
            stream.write(text.encode())

    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""
        require_own(self._table)
        try:
            self._filesystem.delete_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return
