"""Writes rows as Parquet files of a table, one a trading day, ready to be committed.

pyiceberg's own writer costs twice as much processor time: it compresses harder, tries a dictionary for every column
and looks for partitions row by row. The files are what it would write otherwise, with its statistics; but instants,
offsets and sequence numbers are written as differences, which takes less time to write, room to keep and time to read.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    ArrowScan,
    _dataframe_to_data_files,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table, Transaction
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata

from k2_market.schemas.tables import PARTITION_COLUMN
from k2_resources.iceberg.catalog import TableMismatch
from k2_resources.iceberg.scan_files import is_partitioned_by_day

ROWS_PER_GROUP = 1_000_000

_NEARLY_UNIQUE = frozenset({"message_id", "trade_id", "corrects_trade_id", "payload", "kafka_key"})
"""Columns without a dictionary and without bounds: nobody looks for a range of them."""

_WITHOUT_STATISTICS = {f"write.metadata.metrics.column.{name}": "none" for name in _NEARLY_UNIQUE}

_FEW_VALUES = frozenset({"kafka_partition", "schema_id", PARTITION_COLUMN})


def write_day_files(metadata: TableMetadata, io: FileIO, rows: pa.Table) -> Iterator[DataFile]:
    """Write rows, each trading day's to a file of its own; in a table that was given other partitions, as those say.

    Args:
        metadata: The table's, as it is in the transaction that will commit the files.
        io: Where files go.
        rows: In the table's columns, in the order in which they are to lie in the files.
    """
    for file in _written(metadata, io, rows):
        file.spec_id = metadata.default_spec_id  # which a reader asks for, and pyiceberg's constructor passes over
        yield file


def _written(metadata: TableMetadata, io: FileIO, rows: pa.Table) -> Iterator[DataFile]:
    typed = rows.select([field.name for field in metadata.schema().fields]).cast(file_schema(metadata.schema()))
    write_id = uuid.uuid4()
    if not is_partitioned_by_day(metadata.schema(), metadata.spec()):
        yield from _dataframe_to_data_files(metadata, typed, io, write_id)
        return
    days = sorted(pc.unique(typed[PARTITION_COLUMN]).to_pylist())
    for number, day in enumerate(days):
        of_day = typed if len(days) == 1 else typed.filter(pc.equal(typed[PARTITION_COLUMN], day))
        yield _write(metadata, io, f"00000-{number}-{write_id}.parquet", day, of_day)


def require_day_partitions(table: Table) -> None:
    """See that a table has a partition a trading day, so that a day's files can be replaced as a whole.

    Raises:
        TableMismatch: Somebody gave it other partitions.
    """
    if not is_partitioned_by_day(table.schema(), table.spec()):
        raise TableMismatch(
            f"{'.'.join(table.name())}: its partitions are {', '.join(map(str, table.spec().fields)) or 'none'}, "
            "expected a trading day each; its days can be replaced as a whole only then"
        )


def append_files(transaction: Transaction, files: Iterable[DataFile], summary: Mapping[str, str]) -> None:
    """Add written files to a transaction as one snapshot; without files as an empty one.

    Args:
        transaction: What will commit them.
        files: As ``write_day_files`` gave them.
        summary: Goes into the snapshot's summary.
    """
    with transaction.update_snapshot(snapshot_properties=dict(summary)).merge_append() as snapshot:
        for file in files:
            snapshot.append_data_file(file)


def read_files(table: Table, files: Iterable[DataFile], schema: pa.Schema) -> pa.Table:
    """Return the rows of written files, whether a snapshot has them or not.

    Args:
        table: The table that the files are of.
        files: As ``write_day_files`` gave them.
        schema: That of the rows to be read; its columns are the table's.
    """
    projection = table.scan(selected_fields=tuple(schema.names)).projection()
    scan = ArrowScan(table.metadata, table.io, projection, AlwaysTrue())
    return scan.to_table([FileScanTask(file) for file in files]).select(schema.names).cast(schema)


def _write(metadata: TableMetadata, io: FileIO, name: str, day: date, rows: pa.Table) -> DataFile:
    schema, spec = metadata.schema(), metadata.spec()
    key = PartitionKey([PartitionFieldValue(field, day) for field in spec.fields], spec, schema)
    locations = load_location_provider(metadata.location, metadata.properties)
    path = locations.new_data_location(name, key)
    output = io.new_output(path)
    with (
        output.create() as stream,
        pq.ParquetWriter(
            stream,
            rows.schema,
            compression="zstd",
            compression_level=1,
            store_decimal_as_integer=True,
            store_schema=False,
            use_dictionary=[each for field in rows.schema if _has_few_values(field) for each in _leaves(field)],
            column_encoding={field.name: encoding for field in rows.schema if (encoding := _encoding(field))},
            write_statistics=[
                each for field in rows.schema if field.name not in _NEARLY_UNIQUE for each in _leaves(field)
            ],
        ) as writer,
    ):
        writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=writer.writer.metadata,
        stats_columns=compute_statistics_plan(schema, metadata.properties | _WITHOUT_STATISTICS),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=key.partition,
        file_size_in_bytes=len(output),
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _has_few_values(field: pa.Field) -> bool:
    return field.name not in _NEARLY_UNIQUE and (field.name in _FEW_VALUES or _is_text(field.type))


def _encoding(field: pa.Field) -> str | None:
    """Choose the encoding of a column without a dictionary: differences where values grow, lengths apart from texts."""
    if field.name in _NEARLY_UNIQUE:
        return "DELTA_LENGTH_BYTE_ARRAY"
    if not _has_few_values(field) and (pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)):
        return "DELTA_BINARY_PACKED"
    return None


def _is_text(data_type: pa.DataType) -> bool:
    if pa.types.is_map(data_type) or pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return True
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def _leaves(field: pa.Field) -> list[str]:
    """Return the Parquet columns that an Arrow field becomes."""
    if pa.types.is_map(field.type):
        return [f"{field.name}.key_value.key", f"{field.name}.key_value.value"]
    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
        return [f"{field.name}.list.element"]
    return [field.name]


def file_schema(schema: Schema) -> pa.Schema:
    """Return a table's columns with their field ids, of 32-bit texts and lists as K2's own rows have them.

    pyiceberg asks for 64-bit ones, which every row would be copied into, and out of again by whoever reads it.
    """
    return pa.schema([_narrow(field) for field in schema_to_pyarrow(schema)])


def _narrow(field: pa.Field) -> pa.Field:
    kind = field.type
    if pa.types.is_large_string(kind):
        return field.with_type(pa.string())
    if pa.types.is_large_binary(kind):
        return field.with_type(pa.binary())
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return field.with_type(pa.list_(_narrow(kind.value_field)))
    if pa.types.is_map(kind):
        return field.with_type(pa.map_(_narrow(kind.key_field), _narrow(kind.item_field)))
    return field
