"""``k2 up``: start the local stack."""

from typing import Annotated

import typer


def up(
    only: Annotated[
        str | None, typer.Option(help="Only these services, with commas between them: kafka,registry", metavar="NAMES")
    ] = None,
) -> None:
    """Start the local stack: Kafka, schema registry, Dagster, metrics exporter.

    Each is waited for before the next is started. What runs already is left alone.
    """
    from k2_cli.declared_feeds import usable_feeds
    from k2_cli.local_stack import LocalStack
    from k2_cli.stack_status import print_table
    from k2_resources.settings import Settings

    settings = Settings.load()
    stack = LocalStack.of(settings)
    if only is not None:
        stack = stack.only([name.strip() for name in only.split(",") if name.strip()])
    usable_feeds(settings)
    started = stack.up(report=lambda line: typer.echo(line, err=True))
    if not started:
        typer.echo("All of it runs already.", err=True)
    print_table(stack.status())
    typer.echo(f"Logs lie in {settings.log_directory}. `k2 down` stops it all; data stays.", err=True)
