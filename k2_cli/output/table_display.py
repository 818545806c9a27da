"""Formats the first rows of an answer as a table that fits the terminal, and says how much it leaves out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from k2_cli.output.exact_values import texts

if TYPE_CHECKING:
    import pyarrow as pa

    from k2_resources.query.answer import Answer

ROWS_MEASURED = 1_000
"""Rows whose widths decide those of the columns."""

_GAP = 3
"""Spaces between columns."""

_CELL_CHARACTERS = 60
"""Width of a text above which it is cut in a terminal."""
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

    Widths are those of the first ``ROWS_MEASURED`` rows; later rows are printed as they arrive, and a wider cell moves
    what follows.

    Args:
        answer: The rows; all are read, to count them, and few are kept.
        rows: How many to print; 0 prints all.
        console: Where to. Only a terminal has a width to fit in.
    """
    import pyarrow as pa

    batches = iter(answer.batches)
    measured: list[pa.RecordBatch] = []
    rest: pa.RecordBatch | None = None
    measuring = ROWS_MEASURED if rows == 0 else min(rows, ROWS_MEASURED)
    while rest is None and (batch := next(batches, None)) is not None:
        room = measuring - sum(each.num_rows for each in measured)
        measured.append(batch.slice(0, room))
        rest = batch.slice(room) if batch.num_rows > room else None
    first = pa.Table.from_batches(measured, answer.schema)
    layout = _show(_columns(first), console)
    shown = total = first.num_rows
    for batch in () if rest is None else chain([rest], batches):
        total += batch.num_rows
        printed = batch if rows == 0 else batch.slice(0, max(0, rows - shown))
        shown += printed.num_rows
        layout.print_rows(_columns(pa.Table.from_batches([printed])), console)
    layout.print_footer(console)
    left = "" if shown == total else f", the first {shown:,} shown (--rows 0 shows all)"
    console.print(Text(f"{total:,} {'row' if total == 1 else 'rows'}{left}", style="dim"))


def show_columns(columns: list[TableColumn], console: Console) -> None:
    """Print columns as a table; in a terminal, those that do not fit are named below it instead."""
    _show(columns, console).print_footer(console)


@dataclass(frozen=True)
class _Layout:
    """Says how the columns of a table lie: the width of each that is shown, and the names of those that are not."""

    widths: tuple[int, ...]
    left_out: tuple[str, ...]

    def print_rows(self, columns: list[TableColumn], console: Console) -> None:
        """Print further rows under a table."""
        shown = [_cut(column) if console.is_terminal else column for column in columns[: len(self.widths)]]
        for row in zip(*(column.cells for column in shown), strict=True):
            cells = (
                cell.rjust(width) if column.right else cell.ljust(width)
                for cell, column, width in zip(row, shown, self.widths, strict=True)
            )
            console.file.write((" " * _GAP).join(cells).rstrip() + "\n")

    def print_footer(self, console: Console) -> None:
        """Print the names of the columns that are not shown."""
        if self.left_out:
            names = ", ".join(self.left_out)
            console.print(Text(f"not shown: {names}. Select fewer columns, or use --format csv.", style="dim"))


def _show(columns: list[TableColumn], console: Console) -> _Layout:
    """Print columns as a table without its footer."""
    if console.is_terminal:
        columns = [_cut(column) for column in columns]
        fitting = _fitting(columns, console.width)
    else:
        fitting = len(columns)
        console.width = max(console.width, sum(_width(column) + _GAP for column in columns) + 1)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns[:fitting]:
        table.add_column(Text(column.name), justify="right" if column.right else "left", no_wrap=True)
    for row in zip(*(column.cells for column in columns[:fitting]), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    left_out = tuple(column.name for column in columns[fitting:])
    return _Layout(tuple(_width(column) for column in columns[:fitting]), left_out)


def _columns(rows: pa.Table) -> list[TableColumn]:
    return [_column(name, rows[name]) for name in rows.column_names]


def visible(text: str) -> str:
    """Return a text from outside with its control characters spelled out: printed, it can't steer the terminal."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _column(name: str, values: pa.ChunkedArray) -> TableColumn:
    import pyarrow as pa

    kind = values.type
    cells = [visible("" if text is None else text) for chunk in values.chunks for text in texts(chunk)]
    if pa.types.is_decimal(kind) and kind.scale > 0:
        cells = [cell.rstrip("0").removesuffix(".") for cell in cells]
    right = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return TableColumn(visible(name), cells, right)


def _cut(column: TableColumn) -> TableColumn:
    cells = [cell if len(cell) <= _CELL_CHARACTERS else cell[: _CELL_CHARACTERS - 1] + "…" for cell in column.cells]
    return TableColumn(column.name, cells, column.right)


def _fitting(columns: list[TableColumn], width: int) -> int:
    """Tell how many columns, from the first one, fit; one at least."""
    used = 0
    for index, column in enumerate(columns):
        used += _width(column) + (_GAP if index else 0)
        if used > width:
            return max(index, 1)
    return len(columns)


def _width(column: TableColumn) -> int:
    return max(map(len, [column.name, *column.cells]))
