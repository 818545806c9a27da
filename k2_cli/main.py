"""Defines the ``k2`` command. Each subcommand is imported when it is run, so that ``k2 --help`` is quick.

A command is a function in a module of its own and of its name (``k2_cli/commands/catch_up.py`` holds ``catch_up``).
"""

import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from k2_market.errors import K2Error
from k2_resources.runtime.process import end_without_backtrace

COMMANDS = {
    "demo": "Show the main job at work, on simulated and real days.",
    "up": "Start the local stack.",
    "down": "Stop the local stack; its data stays.",
    "status": "Show which parts of the local stack run.",
    "days": "Show what became of each day of a feed.",
    "logs": "Show what K2's processes have logged.",
    "load": "Produce trades or quotes from files to a feed's topic.",
    "loads": "List what was loaded into a feed.",
    "unload": "Take a load back: cancel the trades that it brought.",
    "correct": "Correct a trade's price or quantity.",
    "cancel": "Cancel a trade.",
    "simulate": "Produce a simulated trading day to a feed's Kafka topic.",
    "catch-up": "Run what is pending of a feed; no daemon needed.",
    "rebuild": "Rebuild days that were built under other rules.",
    "verify": "Verify a feed's rows against broker, ledger and snapshots.",
    "repair": "Make a feed's raw rows what Kafka and the ledger say.",
    "maintain": "Compact, tag and tidy a feed's tables.",
    "backup": "Copy this home to a directory, while it runs.",
    "restore": "Make a home of a backup.",
    "migrate": "Make a home of an older K2 ready for this one.",
    "relocate": "Make a home that was moved or copied one of its own.",
    "clean-orphans": "Delete files of the feeds' tables that nothing refers to.",
    "sql": "Ask a question in SQL over the feeds' tables.",
    "bars": "Show a symbol's bars as a table and a chart.",
}


_VALUES = {str: "TEXT", list: "TEXT", int: "N", float: "N", Path: "FILE", datetime: "DAY"}
"""Placeholders that help shows for the values of options, by type."""


def _no_type(ctx: Any) -> None:
    """Leave out what help says of an argument's type."""


def _name_value(parameter: Any) -> None:
    """Have help call a parameter's value by a word of ours and not by a type of Python's; choices stay as they are."""
    if isinstance(parameter, typer.core.TyperArgument):
        if not parameter.type_descriptor.is_choice:
            parameter.display_type_rich = _no_type  # type: ignore[method-assign]
    elif parameter.metavar is None and not parameter.type_descriptor.is_choice:
        kind = parameter.type_descriptor
        parameter.metavar = _VALUES.get(list if kind.is_list else kind.annotation)


class _CommandOnAHome(typer.core.TyperCommand):
    """A command that is run on a home that it can work on."""

    def invoke(self, ctx: Any) -> Any:
        from k2_cli.inputs.checked_home import checked_home

        assert self.name is not None
        with checked_home(self.name):
            return super().invoke(ctx)


class _CommandOnDemand(typer.core.TyperCommand):
    """A command known by its line of help; the rest is loaded when it is run or asked about."""

    def make_context(self, *arguments: Any, **keywords: Any) -> Any:
        return self._loaded().make_context(*arguments, **keywords)

    def _loaded(self) -> Any:
        assert self.name is not None
        name = self.name.replace("-", "_")
        only = typer.Typer(add_completion=False, rich_markup_mode=None)
        only.command(self.name, cls=_CommandOnAHome)(getattr(import_module(f"k2_cli.commands.{name}"), name))
        command = typer.main.get_command(only)
        for parameter in command.params:
            _name_value(parameter)
        return command


class _Commands(TyperGroup):
    """K2's commands; the one place where K2's own errors become a message and an exit code."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        for name, help_line in COMMANDS.items():
            self.add_command(_CommandOnDemand(name, help=help_line))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            from k2_cli.inputs.extras import NEEDS_EXTRA

            if error.name is None or error.name.startswith("k2_"):
                raise
            _refuse(
                f"`k2 {ctx.invoked_subcommand}` needs the package {error.name}, which is not installed: {NEEDS_EXTRA}"
            )
            raise typer.Exit(1) from error
        except K2Error as error:
            _refuse(str(error))
            raise typer.Exit(1) from error


def _refuse(text: str) -> None:
    typer.secho(f"k2: {text}", err=True, fg=typer.colors.RED)


def _print_version(wanted: bool) -> None:
    if wanted:
        from k2_market.homes.home_format import FORMAT
        from k2_resources.homes.home_format import installed_version

        typer.echo(f"k2 {installed_version()}, home format {FORMAT}")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def k2(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """K2, a market-data lakehouse whose numbers can be traced and proven."""
    end_without_backtrace()
    for stream in (sys.stdout, sys.stderr):
        if not stream.encoding.lower().startswith("utf") and hasattr(stream, "reconfigure"):
            # What such a terminal has no sign for is spelled out, rather than being an error.
            stream.reconfigure(errors="backslashreplace")
