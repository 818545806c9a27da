"""Reads a trading day's rows from a table's own files in little memory: texts of few values stay dictionaries.

pyiceberg's reader is asked where a file is not as K2 wrote it: columns that the table got later, rows that are deleted
apart, a file of several days.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import FileScanTask, Table

from k2_resources.iceberg.scan_files import is_partitioned_by_day, of_day

_OF_FEW_VALUES = ("symbol", "side", "currency", "action", "kafka_topic_id", "reject_reason")
_BATCH_ROWS = 131_072
_FIELD_ID = b"PARQUET:field_id"


def read_compactly(table: Table, day: date, tasks: Sequence[FileScanTask], schema: pa.Schema) -> pa.Table:
    """Return a day's rows with the columns of a schema; texts of few values stay dictionaries.

    Args:
        table: The table at some snapshot.
        day: The trading day.
        tasks: The files that may hold rows of it, as planned.
        schema: Some of the table's columns.
    """
    compact = compacted(schema)
    files = _own_files(table, tasks, schema)
    if files is None:
        return _by_pyiceberg(table, day, schema).cast(compact)
    parts = []
    for file in files:
        with _opened(table, file, compact) as opened:
            parts.append(opened.read(schema.names, use_threads=True).cast(compact))
    return pa.concat_tables([compact.empty_table(), *parts]).unify_dictionaries()


def row_batches(table: Table, day: date, tasks: Sequence[FileScanTask], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield a day's rows a batch at a time, in the order in which they were written.

    Args:
        table: The table at some snapshot.
        day: The trading day.
        tasks: The files that may hold rows of it, as planned.
        schema: Some of the table's columns, as they are or ``compacted``.
    """
    files = _own_files(table, tasks, schema)
    if files is None:
        yield _by_pyiceberg(table, day, schema)
        return
    for file in files:
        with _opened(table, file, schema) as opened:
            for batch in opened.iter_batches(_BATCH_ROWS, columns=schema.names):
                yield pa.Table.from_batches([batch]).cast(schema)


def compacted(schema: pa.Schema) -> pa.Schema:
    """Return columns of a table, with dictionaries for texts of few values."""
    return pa.schema([_compact(field) for field in schema])


def _by_pyiceberg(table: Table, day: date, schema: pa.Schema) -> pa.Table:
    scan = table.scan(row_filter=of_day(day), selected_fields=tuple(schema.names))
    return scan.to_arrow().select(schema.names).cast(schema)


@dataclass(frozen=True)
class _File:
    path: str
    footer: pq.FileMetaData


def _own_files(table: Table, tasks: Sequence[FileScanTask], schema: pa.Schema) -> list[_File] | None:
    """Return the files if they hold the day's rows alone, with the columns of the table; else None."""
    wanted = {name: str(table.schema().find_field(name).field_id).encode() for name in schema.names}
    found = []
    for task in tasks:
        if not _holds_the_day_alone(table, task):
            return None
        file = _File(task.file.file_path, _footer(table, task.file.file_path))
        if _field_ids(file.footer, wanted) != wanted:
            return None
        found.append(file)
    return found


def _holds_the_day_alone(table: Table, task: FileScanTask) -> bool:
    """Tell whether a planned file is read as a whole, which it is where its partition is one trading day."""
    return not task.delete_files and is_partitioned_by_day(table.schema(), table.specs()[task.file.spec_id])


def _footer(table: Table, path: str) -> pq.FileMetaData:
    with table.io.new_input(path).open() as stream:
        return pq.read_metadata(stream)


def _field_ids(footer: pq.FileMetaData, wanted: dict[str, bytes]) -> dict[str, bytes | None]:
    found = footer.schema.to_arrow_schema()
    fields = {name: found.field(name) for name in wanted if found.get_field_index(name) >= 0}
    return {name: (field.metadata or {}).get(_FIELD_ID) for name, field in fields.items()}


@contextmanager
def _opened(table: Table, file: _File, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    dictionaries = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    with (
        table.io.new_input(file.path).open() as stream,
        pq.ParquetFile(stream, metadata=file.footer, read_dictionary=dictionaries) as opened,
    ):
        yield opened


def _compact(field: pa.Field) -> pa.Field:
    return field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in _OF_FEW_VALUES else field
