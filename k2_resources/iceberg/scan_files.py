"""Finds which files of a table hold which trading days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from typing import Any, cast

from pyiceberg.expressions import BooleanExpression, EqualTo, Or
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table

from k2_market.errors import K2Error
from k2_market.schemas.tables import PARTITION_COLUMN

_EPOCH = date(1970, 1, 1)


def of_day(day: date) -> BooleanExpression:
    """Return the filter for a trading day's rows, which whole files satisfy."""
    equal_to: Any = EqualTo  # a pydantic model whose own __init__ type checkers don't agree about
    return cast("BooleanExpression", equal_to(PARTITION_COLUMN, day.isoformat()))


def of_days(days: Sequence[date]) -> BooleanExpression:
    """Return the filter for the rows of some trading days, which whole files satisfy; at least one day."""
    return reduce(Or, map(of_day, days))


def of_other_days(day: date) -> str:
    """Return the filter for the rows of all trading days but one, as text."""
    return f"({PARTITION_COLUMN} < '{day}' OR {PARTITION_COLUMN} > '{day}')"


@dataclass(frozen=True)
class DayFiles:
    """The data files of a trading day, by the table's metadata."""

    files: int = 0
    rows: int = 0
    bytes: int = 0


def day_files(table: Table | None, day: date) -> DayFiles:
    """Tell how many files, rows and bytes a table holds for a trading day; reads manifests, no data."""
    return files_by_day(table, [day])[day]


def files_by_day(table: Table | None, days: Sequence[date]) -> dict[date, DayFiles]:
    """Tell how many files, rows and bytes a table holds for each of some trading days."""
    found = dict.fromkeys(days, DayFiles())
    for day, files in _data_files(table, days).items():
        found[day] = DayFiles(
            files=len(files),
            rows=sum(file.record_count for file in files),
            bytes=sum(file.file_size_in_bytes for file in files),
        )
    return found


def filled_by_day(table: Table | None, column: str) -> dict[date, int]:
    """Count by trading day the rows in which a column is not null; reads manifests, no data, if these count nulls.

    Args:
        table: A table with a partition a trading day, and its rows.
        column: The column's name.
    """
    if table is None or table.current_snapshot() is None:
        return {}
    field_id = table.schema().find_field(column).field_id
    found: dict[date, int] = {}
    for task in table.scan().plan_files():
        day = _EPOCH + timedelta(days=task.file.partition[0])
        nulls = (task.file.null_value_counts or {}).get(field_id)
        if nulls is None:
            raise K2Error(f"{task.file.file_path}: its manifest does not count the nulls of {column}")
        found[day] = found.get(day, 0) + task.file.record_count - nulls
    return found


def days_of(table: Table) -> frozenset[date]:
    """List the trading days that a table has rows of; reads manifests, no data, where it is parted by day."""
    if table.current_snapshot() is None:
        return frozenset()
    scan = table.scan(selected_fields=(PARTITION_COLUMN,))
    if all(is_partitioned_by_day(table.schema(), spec) for spec in table.specs().values()):
        return frozenset(_EPOCH + timedelta(days=task.file.partition[0]) for task in scan.plan_files())
    return frozenset(scan.to_arrow()[PARTITION_COLUMN].unique().to_pylist())


def day_paths(table: Table, day: date) -> frozenset[str]:
    """Return the paths of the data files that hold a trading day's rows; reads manifests, no data."""
    return paths_by_day(table, [day])[day]


def paths_by_day(table: Table, days: Sequence[date]) -> dict[date, frozenset[str]]:
    """Return the paths of the data files that hold the rows of each of some trading days."""
    found = _data_files(table, days)
    return {day: frozenset(file.file_path for file in found.get(day, ())) for day in days}


def is_partitioned_by_day(schema: Schema, spec: PartitionSpec) -> bool:
    """Say whether a table has a partition a trading day and no other, as K2 makes its tables."""
    columns = [(schema.find_column_name(field.source_id), str(field.transform)) for field in spec.fields]
    return columns == [(PARTITION_COLUMN, "day")]


def tasks_by_day(table: Table, days: Sequence[date]) -> dict[date, list[FileScanTask]]:
    """Return the files to read for each of some trading days, of which there is one at least; reads manifests, no data.

    In a table that somebody gave other partitions a file may hold rows of further days.
    """
    planned = list(table.scan(row_filter=_between(min(days), max(days))).plan_files())
    specs = [table.specs()[spec_id] for spec_id in {task.file.spec_id for task in planned}]
    if not all(is_partitioned_by_day(table.schema(), spec) for spec in specs):
        return {day: list(table.scan(row_filter=of_day(day)).plan_files()) for day in days}
    found: dict[date, list[FileScanTask]] = {day: [] for day in days}
    for task in planned:
        day = _EPOCH + timedelta(days=task.file.partition[0])
        if day in found:
            found[day].append(task)
    return found


def _data_files(table: Table | None, days: Sequence[date]) -> dict[date, list[DataFile]]:
    if table is None or table.current_snapshot() is None or not days:
        return {}
    return {day: [task.file for task in tasks] for day, tasks in tasks_by_day(table, days).items()}


def _between(first: date, last: date) -> str:
    return f"{PARTITION_COLUMN} >= '{first}' AND {PARTITION_COLUMN} <= '{last}'"
