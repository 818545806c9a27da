"""``k2 days``: print what became of each day of a feed."""

import json
from datetime import date
from typing import Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option

_SHOWN = 30


def days(
    feed: Annotated[str, typer.Option(help="A feed's name.")],
    first: Annotated[AskedDay | None, day_option("--from", "The first day.")] = None,
    last: Annotated[AskedDay | None, day_option("--to", "The last day.")] = None,
    bad: Annotated[bool, typer.Option("--bad", help="Only days that someone should look at.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Print what became of each day of a feed: messages, rows, dead letters, trades, bars and checks.

    The last 30 days unless bounds are given. With --bad, days with a check that did not pass, with dead letters, or
    whose bars are to be built again, and what the checks say.
    """
    from dataclasses import replace
    from importlib.util import find_spec

    from rich.console import Console

    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.inputs.extras import NEEDS_EXTRA
    from k2_platform.dagster_storage import existing_instance
    from k2_platform.day_summary import as_json as day_as_json
    from k2_platform.day_summary import day_states, print_findings, summaries, summary_table
    from k2_resources.iceberg.catalog import open_catalog

    if find_spec("dagster") is None:
        typer.secho(
            f"Messages and checks are not known without Dagster: {NEEDS_EXTRA}.", err=True, fg=typer.colors.YELLOW
        )
    settings = settings_of_home()
    known = usable_feed(settings, feed)
    start, end = first and first.date(known.zone), last and last.date(known.zone)
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    with existing_instance(settings) as instance:
        states = day_states(catalog, known, instance)
        wanted = [day for day in states.days if (start or date.min) <= day <= (end or date.max)]
        left_out = 0 if bad or start or end else max(0, len(wanted) - _SHOWN)
        found = summaries(settings, known, catalog, instance, replace(states, days=tuple(wanted[left_out:])))
    shown = [day for day in found if day.is_bad or not bad]
    if as_json:
        typer.echo(json.dumps([day_as_json(day) for day in shown], indent=2))
        return
    console = Console(highlight=False, soft_wrap=False, width=None if Console().is_terminal else 150)
    if shown:
        console.print(summary_table(shown))
    if bad:
        print_findings(shown, console)
        console.print(f"{len(shown)} of {len(found)} days of {feed} should be looked at.")
    elif not shown:
        console.print(f"{feed} has no days{' in these bounds' if start or end else ' yet'}.")
    elif left_out:
        console.print(f"{left_out} earlier days are not shown; --from gives them.")
