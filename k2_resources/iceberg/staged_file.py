"""Streams rows to an uncommitted Parquet file of a table, which is added to it later, or deleted.

Sorted rows in small row groups, with statistics of each, let a reader of one symbol skip the others: ``day_files``
writes whole tables at once, in groups for readers of whole days. Columns of few values get dictionaries, others none.
"""

import uuid
from contextlib import suppress
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table
from pyiceberg.table.locations import load_location_provider

from k2_resources.iceberg.day_files import require_day_partitions
from k2_resources.iceberg.file_schema import file_schema

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
