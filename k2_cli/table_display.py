"""An answer's first rows as a table that fits the terminal and says what it leaves out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from k2_cli.exact_texts import texts

if TYPE_CHECKING:
    import pyarrow as pa

    from k2_resources.query_answer import Answer

_CELL_CHARACTERS = 60
"""Longer texts are cut in a terminal."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class TableColumn:
    """A column as it is shown.

    Attributes:
        name: Its heading.
        cells: Its texts, top to bottom.
        right: Whether it is numbers, which end at the same place.
    """

    name: str
    cells: list[str]
    right: bool


def show_answer(answer: Answer, rows: int, console: Console) -> None:
    """Print an answer's first rows, and a line that says how many there are.

    Args:
        answer: The rows; all are read, to count them, and few are kept.
        rows: How many to print; 0 prints all.
        console: Where to. Only a terminal has a width to fit in.
    """
    import pyarrow as pa

    kept: list[pa.RecordBatch] = []
    kept_rows = total = 0
    for batch in answer.batches:
        total += batch.num_rows
        room = batch.num_rows if rows == 0 else rows - kept_rows
        if room > 0:
            kept.append(batch.slice(0, room))
            kept_rows += kept[-1].num_rows
    first = pa.Table.from_batches(kept, answer.schema)
    show_columns([_column(name, first[name]) for name in first.column_names], console)
    shown = "" if kept_rows == total else f", the first {kept_rows:,} shown (--rows 0 shows all)"
    console.print(Text(f"{total:,} {'row' if total == 1 else 'rows'}{shown}", style="dim"))


def show_columns(columns: list[TableColumn], console: Console) -> None:
    """Print columns as a table; in a terminal, those that do not fit are named below it instead."""
    if console.is_terminal:
        columns = [_cut(column) for column in columns]
        fitting = _fitting(columns, console.width)
    else:
        fitting = len(columns)
        console.width = max(console.width, sum(_width(column) + 3 for column in columns) + 1)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns[:fitting]:
        table.add_column(Text(column.name), justify="right" if column.right else "left", no_wrap=True)
    for row in zip(*(column.cells for column in columns[:fitting]), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    if fitting < len(columns):
        left_out = ", ".join(column.name for column in columns[fitting:])
        console.print(Text(f"not shown: {left_out}. Select fewer columns, or use --format csv.", style="dim"))


def visible(text: str) -> str:
    """A text from outside with its control characters spelled out: printed, it can't steer the terminal."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _column(name: str, values: pa.ChunkedArray) -> TableColumn:
    import pyarrow as pa

    cells = [visible("" if text is None else text) for chunk in values.chunks for text in texts(chunk)]
    kind = values.type
    right = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return TableColumn(visible(name), cells, right)


def _cut(column: TableColumn) -> TableColumn:
    cells = [cell if len(cell) <= _CELL_CHARACTERS else cell[: _CELL_CHARACTERS - 1] + "…" for cell in column.cells]
    return TableColumn(column.name, cells, column.right)


def _fitting(columns: list[TableColumn], width: int) -> int:
    """How many columns, from the first one, fit; one at least."""
    used = 0
    for index, column in enumerate(columns):
        used += _width(column) + (2 if index else 0)
        if used > width:
            return max(index, 1)
    return len(columns)


def _width(column: TableColumn) -> int:
    return max(map(len, [column.name, *column.cells]))
