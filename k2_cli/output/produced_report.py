"""Formats the outcome of sending trades: a table, or JSON."""

import json
from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from k2_cli.output.table_display import visible
from k2_market.simulation.simulated_faults import PlantedFault
from k2_platform.producing import Produced

_RANGES_SHOWN = 5
_WIDTH_IN_FILES = 160
_NAMES_SHOWN = 6


def print_report(produced: Produced, as_json: bool) -> None:
    """Print what was sent, and the faults that are in it."""
    if as_json:
        typer.echo(json.dumps(produced.as_json()))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    console.print(_summary(produced))
    if produced.planted:
        console.print(_planted(produced.planted))
    for warning in produced.warnings:
        typer.secho(f"k2: {warning}", err=True, fg=typer.colors.YELLOW)
    typer.echo(
        f"Next: while the stack runs, bars follow in about a minute; without it, `k2 catch-up --feed {produced.feed}` "
        f"makes them. `k2 days --feed {produced.feed}` says what became of it.",
        err=True,
    )


def _summary(produced: Produced) -> Table:
    table = _table("sent", "")
    if produced.files:
        names = ", ".join(visible(Path(name).name) for name, _ in produced.files[:_NAMES_SHOWN])
        more = f" and {len(produced.files) - _NAMES_SHOWN} more" if len(produced.files) > _NAMES_SHOWN else ""
        table.add_row("files", Text(f"{len(produced.files)}: {names}{more}"))
        table.add_row("rows", f"{sum(rows for _, rows in produced.files):,}")
    table.add_row("feed", produced.feed)
    table.add_row("topic", f"{produced.topic}, {produced.partitions} partitions")
    table.add_row("messages", f"{produced.messages:,}, all confirmed")
    table.add_row("time", f"{produced.seconds:.1f} s, {produced.messages_per_second:,} messages/s")
    table.add_row("correlation id", produced.correlation_id)
    return table


def _planted(planted: tuple[PlantedFault, ...]) -> Table:
    table = _table("planted fault", "how many", "symbol: sequence numbers")
    kinds = dict.fromkeys((each.fault, each.detail) for each in planted)
    for fault, detail in kinds:
        hit = [each for each in planted if (each.fault, each.detail) == (fault, detail)]
        where = [f"{each.symbol}: {_numbers(each)}" for each in hit[:_NAMES_SHOWN]]
        if len(hit) > _NAMES_SHOWN:
            where.append(f"{len(hit) - _NAMES_SHOWN} more symbols")
        name = f"{fault} ({detail})" if detail else fault.value
        table.add_row(name, f"{sum(each.count for each in hit):,}", Text("; ".join(where)))
    return table


def _numbers(planted: PlantedFault) -> str:
    shown = [
        str(first) if first == last else f"{first}-{last}" for first, last in planted.sequence_numbers[:_RANGES_SHOWN]
    ]
    return ", ".join(shown) + (", …" if len(planted.sequence_numbers) > _RANGES_SHOWN else "")


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(Text(heading))
    return table
