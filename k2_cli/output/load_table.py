"""Formats loads as a table, or as plain values for JSON."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from k2_cli.output.table_display import visible
from k2_market.loads.loads import Load, LoadKind

_WIDTH_IN_FILES = 200
_NAMES_SHOWN = 3
_ID_DIGITS = 8


def load_table(loads: Sequence[Load]) -> None:
    """Print loads, a row each."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for heading in ("id", "loaded at", "state", "what", "content", "rows", "first trade", "last trade", "offsets"):
        table.add_column(Text(heading))
    for load in loads:
        hashes = ", ".join(file.content_hash[:_ID_DIGITS] for file in load.files[:_NAMES_SHOWN])
        cells = (
            load.load_id[:_ID_DIGITS],
            _time(load.time),
            f"{load.state}{' again' if load.again else ''}",
            _what(load),
            hashes,
            f"{load.rows:,}",
            _time(load.first),
            _time(load.last),
            " ".join(f"{partition}:{start}-{end}" for partition, (start, end) in sorted(load.offsets.items())),
        )
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    console.print(table)


def as_plain(load: Load) -> dict[str, Any]:
    """Give a load as values that JSON has; files with name, hash and rows."""
    return {
        "id": load.load_id,
        "kind": load.kind.value,
        "state": load.state.value,
        "again": load.again,
        "time": load.time.isoformat(),
        "about": load.about,
        "rows": load.rows,
        "first": None if load.first is None else load.first.isoformat(),
        "last": None if load.last is None else load.last.isoformat(),
        "topic_id": load.topic_id,
        "offsets": {str(partition): list(span) for partition, span in sorted(load.offsets.items())},
        "trade_dates": sorted(day.isoformat() for day in load.days),
        "files": [{"name": file.name, "sha256": file.content_hash, "rows": file.rows} for file in load.files],
    }


def _what(load: Load) -> str:
    if load.kind is LoadKind.AMENDMENT:
        return visible(load.about)
    if load.kind is LoadKind.UNLOAD:
        return f"unload of {load.about[:_ID_DIGITS]}"
    names = ", ".join(visible(Path(file.name).name) for file in load.files[:_NAMES_SHOWN])
    more = len(load.files) - _NAMES_SHOWN
    return names + (f" and {more} more" if more > 0 else "")


def _time(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}Z"
