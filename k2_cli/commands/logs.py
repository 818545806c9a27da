"""``k2 logs``: show the log of all of K2's processes, filtered, as readable lines or as JSON."""

from datetime import UTC, datetime
from typing import Annotated

import typer


def logs(
    since: Annotated[
        str | None, typer.Option(help="How long back: 90s, 10m, 2h, 3d, or a UTC time as 2026-11-30T14:00.")
    ] = None,
    level: Annotated[str, typer.Option(help="The least level: debug, info, warning, error.")] = "info",
    feed: Annotated[str | None, typer.Option(help="Lines that are about a feed.")] = None,
    component: Annotated[str | None, typer.Option(help="Lines of a component: dagster, iceberg, alerts, ….")] = None,
    contains: Annotated[
        str | None, typer.Option("--grep", help="Lines that hold a text: a run id, a correlation id, a word.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last so many lines; 0 for all.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines, for programs.")] = False,
) -> None:
    """Show what K2's processes have logged, oldest first.

    Example: k2 logs --since 10m --level warning --feed asx
    """
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.output.log_lines import LogFilter, matching_lines, shown
    from k2_resources.logs.structured_logging import LOG_FILE

    settings = settings_of_home()
    wanted = LogFilter.parse(since, level, feed, component, contains, datetime.now(UTC))
    for line in matching_lines(settings.log_directory / LOG_FILE, wanted, lines):
        typer.echo(line.text if as_json else shown(line))
