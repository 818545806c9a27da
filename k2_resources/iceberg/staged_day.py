"""Stages a day's rows for a derived table: written to a file of the table, not yet committed."""

import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table
from pyiceberg.table.locations import load_location_provider

from k2_resources.iceberg.day_files import file_schema, require_day_partitions
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.table_layout import Layout
from k2_resources.iceberg.whole_files import require_whole


class StagedDay:
    """Rows that are written, and held against the published version, while the next ones are made.

    Attributes:
        day: The trading day.
        rows: How many there are so far.
        published: The paths of the files that held the day when it was staged.
        data_file: What Iceberg has to know of the file; None before the end, and where there are no rows.
    """

    def __init__(
        self, table: Table, day: date, schema: pa.Schema, published: frozenset[str], writing: Executor
    ) -> None:
        """Begin a day.

        Args:
            table: The table at the snapshot that the rows are held against.
            day: The trading day.
            schema: Its columns.
            published: The paths of the files that hold the day now.
            writing: Writes the rows, while the next ones are made. One thread for all days: each thread that has
                written keeps memory for the next time, some ten megabytes.
        """
        self.day = day
        self.rows = 0
        self.published = published
        self.data_file: DataFile | None = None
        self._same_as_published = False
        self._ended = False
        self.file = StagedFile(table, day)
        self._layout = Layout.of(table)
        self._schema = schema
        self._before = _Before(DayReader(table, schema, [day]).day_batches(day) if published else iter(()), schema)
        self._writing = writing
        self._written: Future[None] | None = None
        self._kept = False

    def add(self, rows: pa.Table) -> None:
        """Add rows after the others; the ones before are written by then."""
        rows = rows.cast(self._schema)
        self._wait()
        self.rows += rows.num_rows
        if rows.num_rows:
            self._written = self._writing.submit(self._write, rows)

    def end(self) -> None:
        """See that all is written; from then on it is known what Iceberg has to know of the file. Once is enough."""
        if self._ended:
            return
        self._wait()
        self._same_as_published = bool(self.published) == bool(self.rows) and self._before.all_equal()
        self.data_file = self.file.close() if self.rows else None
        self._ended = True

    def is_in(self, paths: frozenset[str]) -> bool:
        """Say whether the file is among those that hold the day: its commit landed."""
        return self.data_file is not None and self.data_file.file_path in paths

    def says_the_same_as(self, paths: frozenset[str]) -> bool:
        """Say whether the day's files, as they are, say what the rows say."""
        if not paths and self.data_file is None:
            return True
        return paths == self.published and self._same_as_published

    def fit(self, table: Table) -> None:
        """See that the rows, which have ended, lie in a file that the table can take as it lies now.

        Args:
            table: The table as it is about to be committed to. Where it lies otherwise than when the file was begun, or
                files of it were cleaned away since, the rows are written to a new file.

        Raises:
            FilesGone: The file is not there any more, or not as it was written.
        """
        if self.data_file is None or self._layout == Layout.of(table):
            return
        require_whole(".".join(table.name()), table.io, [self.data_file])
        written, self.file = self.file, StagedFile(table, self.day)
        self.file.write_from(written.path)
        self.data_file = self.file.close()
        self._layout = Layout.of(table)
        # Whatever made the table lie otherwise was a commit, so that an earlier attempt with this file can't land.
        written.discard()

    def keep(self) -> None:
        """Say that the file is the table's now, or may be."""
        self._kept = True

    def close(self) -> None:
        """Let go of all; the file is taken away unless it is the table's."""
        if self._written is not None:
            wait([self._written])
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
        """Say whether nothing differed and nothing is left; asked once."""
        return self._equal and not self._read.num_rows and next(self._batches, None) is None


ROW_GROUP_ROWS = 131_072
"""A symbol's day is in one or two groups of this size; smaller ones make footers longer than what they save."""

_WITH_DICTIONARY = (
    "trade_date",
    "symbol",
    "side",
    "conditions.list.element",
    "currency",
    "kafka_topic_id",
    "kafka_partition",
    "price",
    "quantity",
)


class StagedFile:
    """One data file of a table's partition, being written."""

    def __init__(self, table: Table, day: date) -> None:
        """Open a file in a place of the table's choosing; nothing of the table changes.

        Raises:
            TableMismatch: Somebody gave the table other partitions than trading days.
        """
        require_day_partitions(table)
        self._table = table
        self._schema = file_schema(table.schema())
        self.path = _place(table, day)
        self._stream = table.io.new_output(self.path).create()
        self._writer = pq.ParquetWriter(
            self._stream,
            self._schema,
            compression="zstd",
            compression_level=1,
            store_decimal_as_integer=True,
            use_dictionary=[name for name in _WITH_DICTIONARY if name.split(".")[0] in self._schema.names],
            store_schema=False,
        )

    def write(self, rows: pa.Table) -> None:
        """Write some rows after the others; each call begins a row group."""
        self._writer.write_table(rows.select(self._schema.names).cast(self._schema), row_group_size=ROW_GROUP_ROWS)

    def close(self) -> DataFile:
        """End the file; what Iceberg has to know of it, the partition among it, is taken from its statistics."""
        self._writer.close()
        self._stream.close()
        return parquet_file_to_data_file(self._table.io, self._table.metadata, self.path)

    def write_from(self, path: str) -> None:
        """Write the rows of another file of the table, in the row groups that they have there."""
        with self._table.io.new_input(path).open() as stream, pq.ParquetFile(stream) as written:
            for number in range(written.num_row_groups):
                self.write(written.read_row_group(number))

    def discard(self) -> None:
        """Take the file away, ended or not; it may be gone already."""
        self._writer.close()
        self._stream.close()
        with suppress(FileNotFoundError):
            self._table.io.delete(self.path)


def _place(table: Table, day: date) -> str:
    spec = table.spec()
    key = PartitionKey([PartitionFieldValue(field, day) for field in spec.fields], spec, table.schema())
    provider = load_location_provider(table.location(), table.properties)
    return provider.new_data_location(f"00000-0-{uuid.uuid4()}.parquet", key)
