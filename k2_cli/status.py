"""``k2 status``: show which parts of the local stack run."""

from typing import Annotated

import typer


def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """Show which parts of the local stack run, and where.

    A part is running, stopped, stale (it ended without being stopped) or foreign (another process has its port). Feed
    files that were refused are named with the reason.
    """
    from k2_cli.declared_feeds import usable_feeds
    from k2_cli.local_stack import LocalStack
    from k2_cli.stack_status import as_json_text, print_table
    from k2_resources.settings import Settings

    settings = Settings.load()
    statuses = LocalStack.to_show(settings).status()
    refused = usable_feeds(settings).refused
    if as_json:
        typer.echo(as_json_text(statuses, refused))
    else:
        print_table(statuses)
