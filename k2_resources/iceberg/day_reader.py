"""Reads trading days of a table at one snapshot, whose files are planned once."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property

import pyarrow as pa
from pyiceberg.table import FileScanTask, Table

from k2_resources.iceberg.day_rows import compacted, read_compactly, row_batches
from k2_resources.iceberg.scan_files import tasks_by_day
from k2_resources.iceberg.table_errors import translate_errors


class DayReader:
    """Reads trading days of a table, or of none, which has no rows.

    Every method raises ``WarehouseUnavailable`` where a file of the table can't be read.
    """

    def __init__(self, table: Table | None, schema: pa.Schema, days: Sequence[date]) -> None:
        """Make a reader; nothing is read yet.

        Args:
            table: The table at some snapshot.
            schema: Its columns.
            days: The days that will be asked for.
        """
        self._table = None if table is None or table.current_snapshot() is None else table
        self._schema = schema
        self._days = days

    def read_day(self, day: date, *columns: str) -> pa.Table:
        """Return a day's rows, in the order in which they were written; all columns unless some are named."""
        return self.read_day_compactly(day, *columns).cast(self._schema_of(columns))

    def read_day_compactly(self, day: date, *columns: str) -> pa.Table:
        """Return the same, but texts of few values are dictionaries: a large day takes less memory."""
        schema = self._schema_of(columns)
        if self._table is None:
            return schema.empty_table()
        with translate_errors(".".join(self._table.name()), f"reading {day} of"):
            return read_compactly(self._table, day, self._tasks[day], schema)

    def day_batches(self, day: date, *columns: str) -> Iterator[pa.Table]:
        """Yield the same a batch at a time, texts plain."""
        return self._batches(day, self._schema_of(columns))

    def day_batches_compactly(self, day: date, *columns: str) -> Iterator[pa.Table]:
        """Yield the same a batch at a time, texts of few values as dictionaries."""
        return self._batches(day, compacted(self._schema_of(columns)))

    def _batches(self, day: date, schema: pa.Schema) -> Iterator[pa.Table]:
        if self._table is not None:
            with translate_errors(".".join(self._table.name()), f"reading {day} of"):
                yield from row_batches(self._table, day, self._tasks[day], schema)

    @cached_property
    def _tasks(self) -> Mapping[date, Sequence[FileScanTask]]:
        return {} if self._table is None else tasks_by_day(self._table, self._days)

    def _schema_of(self, columns: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in columns]) if columns else self._schema
