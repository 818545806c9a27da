"""``k2 sql``: ask the tables a question in SQL."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option
from k2_cli.output.answer_formats import AnswerFormat, write_answer
from k2_market.errors import K2Error


class ParameterError(K2Error):
    """A ``--param`` is not ``name=value``."""


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT; - reads it from standard input.")],
    form: Annotated[AnswerFormat, typer.Option("--format", help="How the rows are written.")] = AnswerFormat.TABLE,
    output: Annotated[Path | None, typer.Option(help="The file to write to, instead of standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --output if it is there.")] = False,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="The value of $NAME in the statement; repeatable.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows that a table shows; 0 shows all.")] = 40,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            metavar="MOMENT",
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            help="Show the tables as they were at this moment, as 2026-11-24T09:30:00Z.",
        ),
    ] = None,
    as_of_day: Annotated[
        AskedDay | None,
        day_option("--as-of-day", "Show the tables as they were at the end of this trading day."),
    ] = None,
) -> None:
    """Ask the tables in SQL (DuckDB's), read-only and in UTC.

    Tables are <feed>.<table> and all_feeds.<table>: SHOW ALL TABLES lists them.

    Example: k2 sql 'SELECT count(*) FROM asx.trades WHERE trade_date = $day' --param day=2014-03-11
    """
    from k2_cli.inputs.declared_feeds import warn_of_refused
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.output.foreign_notice import warn_of_foreign_tables
    from k2_market.feeds.feed import load_feeds
    from k2_market.kinds.shipped import KINDS, tables_of
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.query.answer import run_statement
    from k2_resources.query.reading_statement import parse_statement
    from k2_resources.query.views import open_query_connection

    parsed = parse_statement(sys.stdin.read() if statement == "-" else statement)
    parameters = parse_parameters(param or [])
    if as_of is not None and as_of_day is not None:
        raise ParameterError("--as-of and --as-of-day: one of them, a moment or a trading day.")
    settings = settings_of_home()
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    declared = load_feeds(settings.feed_directories)
    warn_of_refused(declared.refused)
    warn_of_foreign_tables(catalog, declared)
    with open_query_connection(
        catalog,
        declared,
        tables_of(KINDS),
        spill_directory=settings.home / "spill",
        tables=parsed.tables,
        as_of=as_of if as_of_day is None else as_of_day.date(UTC),
    ) as connection:
        answer = run_statement(connection, parsed, parameters)
        if parsed.explains and form is AnswerFormat.TABLE and output is None:
            for row in answer.table().to_pylist():
                print(row["explain_value"])
        else:
            write_answer(answer, form, output, rows, replace=force)


def parse_parameters(assignments: list[str]) -> dict[str, str]:
    """Return values by name from ``name=value`` texts.

    Raises:
        ParameterError: A text is not of that form, or names a parameter a second time.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        name = name.removeprefix("$")
        if not equals or not name.isidentifier():
            raise ParameterError(f"--param {assignment!r}: expected NAME=VALUE, as in --param day=2014-03-11.")
        if name in values:
            raise ParameterError(f"--param {assignment!r}: {name} already has the value {values[name]!r}.")
        values[name] = value
    return values
