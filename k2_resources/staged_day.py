"""A day's rows on their way into a derived table: in a file of the table's, but not in the table yet."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_resources.day_rows import row_batches
from k2_resources.staged_file import StagedFile


class StagedDay:
    """Rows that are written, and held against the published version, while the next ones are made.

    Attributes:
        day: The trading day.
        rows: How many there are so far.
        published: The paths of the files that held the day when it was staged.
        same_as_published: Whether the rows are those of that version, in their order; known at the end.
    """

    def __init__(self, table: Table, day: date, schema: pa.Schema, published: frozenset[str]) -> None:
        """Begin a day.

        Args:
            table: The table at the snapshot that the rows are held against.
            day: The trading day.
            schema: Its columns.
            published: The paths of the files that hold the day now.
        """
        self.day = day
        self.rows = 0
        self.published = published
        self.same_as_published = False
        self.file = StagedFile(table, day)
        self._schema = schema
        self._before = _Before(row_batches(table, day, schema) if published else iter(()), schema)
        self._thread = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self._kept = False

    def add(self, rows: pa.Table) -> None:
        """Add rows after the others; the ones before are written by then."""
        rows = rows.cast(self._schema)
        self._wait()
        self.rows += rows.num_rows
        if rows.num_rows:
            self._written = self._thread.submit(self._write, rows)

    def end(self) -> DataFile | None:
        """See that all is written; what Iceberg has to know of the file, None where it has no rows."""
        self._wait()
        self.same_as_published = bool(self.published) == bool(self.rows) and self._before.all_equal()
        return self.file.close() if self.rows else None

    def keep(self) -> None:
        """Say that the file is the table's now, or may be."""
        self._kept = True

    def close(self) -> None:
        """Let go of all; the file is taken away unless it is the table's."""
        self._thread.shutdown(wait=True)
        if not self._kept:
            self.file.discard()

    def _write(self, rows: pa.Table) -> None:
        self._before.compare(rows)
        self.file.write(rows)

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()
            self._written = None


class _Before:
    """The published rows, read on as far as new ones are held against them; no further once they differ."""

    def __init__(self, batches: Iterator[pa.Table], schema: pa.Schema) -> None:
        self._batches = batches
        self._read = schema.empty_table()
        self._equal = True

    def compare(self, rows: pa.Table) -> None:
        if not self._equal:
            return
        while self._read.num_rows < rows.num_rows and (batch := next(self._batches, None)) is not None:
            self._read = pa.concat_tables([self._read, batch])
        self._equal = self._read.slice(0, rows.num_rows).equals(rows)
        self._read = self._read.slice(rows.num_rows)

    def all_equal(self) -> bool:
        """Whether nothing differed and nothing is left; asked once."""
        return self._equal and not self._read.num_rows and next(self._batches, None) is None
