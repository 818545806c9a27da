"""Formats a verification: one line an invariant, with the exact places of violations; or JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from k2_cli.output.table_display import visible
from k2_market.verification.invariants import STATEMENTS, Invariant, Verification

_PLACES_SHOWN = 20


def print_report(found: Verification, as_json: bool) -> None:
    """Print what came of a verification on stdout."""
    if as_json:
        print(as_json_text(found))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(visible(found.subject), style="bold"))
    console.print(_table(found))
    for each in found.violations:
        console.print(
            Text(
                f"Broken: {STATEMENTS[each.invariant]} ({each.invariant}): {visible(each.what)} ({each.count:,})",
                style="red",
            )
        )
        _print_places(console, each.where)
    for note in found.notes:
        console.print(Text(f"{note.count:,} {visible(note.what)}"))
        _print_places(console, note.where)
    for text in found.not_looked_at:
        console.print(Text(f"not looked at: {visible(text)}", style="dim"))
    for text in found.unanswered:
        console.print(Text(f"not verified: {visible(text)}", style="red"))
    console.print(_verdict(found))


def as_json_text(found: Verification) -> str:
    """``{"subject", "holds", "invariants": {id: {"statement", "looked_at", "holds"}}, "violations": [...], ...}``."""
    broken = {each.invariant for each in found.violations}
    invariants = {
        each.value: {
            "statement": STATEMENTS[each],
            "looked_at": found.looked_at.get(each),
            "holds": None if each not in found.looked_at and each not in broken else each not in broken,
        }
        for each in Invariant
        if each in found.looked_at or each in broken
    }
    content = {"subject": found.subject, "holds": found.holds, "invariants": invariants}
    said = {key: value for key, value in asdict(found).items() if key not in ("subject", "looked_at")}
    return json.dumps({**content, **said}, indent=2)


@contextmanager
def progress_shown(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress through the messages on stderr, if that is a terminal; yields the function to call."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("offsets", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _table(found: Verification) -> Table:
    of_bars = Invariant.BARS in found.looked_at
    broken = {each.invariant for each in found.violations}
    table = Table(box=None, pad_edge=False, show_header=False)
    for each in Invariant:
        looked_at = found.looked_at.get(each)
        if each in broken:
            table.add_row(each.value, Text("broken", style="red"), STATEMENTS[each], Text(looked_at or "", style="dim"))
        elif looked_at is not None:
            table.add_row(each.value, Text("holds", style="green"), STATEMENTS[each], Text(looked_at, style="dim"))
        elif not of_bars and each is not Invariant.BARS:
            table.add_row(each.value, Text("not seen", style="yellow"), STATEMENTS[each], "")
    return table


def _print_places(console: Console, where: Sequence[str]) -> None:
    for place in where[:_PLACES_SHOWN]:
        console.print(Text(f"    {visible(place)}"))
    if len(where) > _PLACES_SHOWN:
        console.print(Text(f"    and {len(where) - _PLACES_SHOWN:,} more (--json names 1,000)", style="dim"))


def _verdict(found: Verification) -> Text:
    if found.holds:
        return Text("All that was looked at holds.", style="green")
    broken = sorted({each.invariant for each in found.violations})
    named = "; ".join(f"{STATEMENTS[each]} ({each})" for each in broken)
    text = f"Broken: {named}." if broken else "Nothing broken was found, but not all could be looked at."
    return Text(text, style="red")
