"""Reads a trading day's rows out of a table's own files, in little memory: texts of few values stay dictionaries.

pyiceberg's reader is asked where a file is not as K2 wrote it: columns that the table got later, rows that are deleted
apart, a file of several days.
"""

from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import FileScanTask, Table

from k2_resources.day_files import parted_by_day_alone
from k2_resources.iceberg_catalog import of_day

_OF_FEW_VALUES = ("symbol", "side", "currency", "action", "kafka_topic_id", "reject_reason")
_BATCH_ROWS = 131_072
_FIELD_ID = b"PARQUET:field_id"


def read_compactly(table: Table, day: date, schema: pa.Schema) -> pa.Table:
    """A day's rows with the columns of a schema; texts of few values are dictionaries, to be made plain where needed.

    Args:
        table: The table at some snapshot.
        day: The trading day.
        schema: Some of the table's columns.
    """
    compact = pa.schema([_compact(field) for field in schema])
    files = _own_files(table, day, schema)
    if files is None:
        return _by_pyiceberg(table, day, schema).cast(compact)
    parts = [_opened(table, file, compact).read(schema.names, use_threads=True).cast(compact) for file in files]
    return pa.concat_tables([compact.empty_table(), *parts]).unify_dictionaries()


def row_batches(table: Table, day: date, schema: pa.Schema) -> Iterator[pa.Table]:
    """A day's rows a batch at a time, in the order in which they were written."""
    files = _own_files(table, day, schema)
    if files is None:
        yield _by_pyiceberg(table, day, schema)
        return
    for file in files:
        for batch in _opened(table, file, schema).iter_batches(_BATCH_ROWS, columns=schema.names):
            yield pa.Table.from_batches([batch]).cast(schema)


def _by_pyiceberg(table: Table, day: date, schema: pa.Schema) -> pa.Table:
    scan = table.scan(row_filter=of_day(day), selected_fields=tuple(schema.names))
    return scan.to_arrow().select(schema.names).cast(schema)


def _own_files(table: Table, day: date, schema: pa.Schema) -> list[str] | None:
    """The files that hold the day's rows and nothing else, column by column as the table has them; None if not so."""
    tasks = list(table.scan(row_filter=of_day(day)).plan_files())
    wanted = {name: str(table.schema().find_field(name).field_id).encode() for name in schema.names}
    if all(_holds_the_day_alone(table, task) and _field_ids(table, task, wanted) == wanted for task in tasks):
        return [task.file.file_path for task in tasks]
    return None


def _holds_the_day_alone(table: Table, task: FileScanTask) -> bool:
    """Whether nothing of a planned file is left out: its partition is a trading day, so it was planned as a whole."""
    return not task.delete_files and parted_by_day_alone(table.schema(), table.specs()[task.file.spec_id])


def _field_ids(table: Table, task: FileScanTask, wanted: dict[str, bytes]) -> dict[str, bytes | None]:
    with table.io.new_input(task.file.file_path).open() as stream:
        found = pq.read_schema(stream)
    fields = {name: found.field(name) for name in wanted if found.get_field_index(name) >= 0}
    return {name: (field.metadata or {}).get(_FIELD_ID) for name, field in fields.items()}


def _opened(table: Table, path: str, schema: pa.Schema) -> pq.ParquetFile:
    dictionaries = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    return pq.ParquetFile(table.io.new_input(path).open(), read_dictionary=dictionaries)


def _compact(field: pa.Field) -> pa.Field:
    return field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in _OF_FEW_VALUES else field
