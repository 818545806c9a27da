"""``k2 up``: start the local stack."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from k2_market.feeds.feed import Feed
    from k2_resources.settings import Settings


def up(
    only: Annotated[
        str | None, typer.Option(help="Only these services, with commas between them: kafka,registry", metavar="NAMES")
    ] = None,
) -> None:
    """Start the local stack: Kafka, schema registry, Dagster, metrics exporter.

    Each is waited for before the next is started. What runs already is left alone, save where feed files changed. Then
    the topics and subjects of all feeds are created that are not there.
    """
    from k2_cli.inputs.declared_feeds import usable_feeds
    from k2_cli.output.stack_status import print_table
    from k2_cli.stack.local_stack import LocalStack
    from k2_resources.settings import Settings

    settings = Settings.load()
    stack = LocalStack.of(settings)
    if only is not None:
        stack = stack.only([name.strip() for name in only.split(",") if name.strip()])
    feeds = usable_feeds(settings)
    started = stack.up(report=lambda line: typer.echo(line, err=True))
    if not started:
        typer.echo("All of it runs already.", err=True)
    if only is None:
        declare_topics_of(settings, feeds)
    print_table(stack.status())
    typer.echo(f"Logs lie in {settings.log_directory}. `k2 down` stops it all; data stays.", err=True)


def declare_topics_of(settings: "Settings", feeds: "Mapping[str, Feed]") -> None:
    """Create the topics and subjects of feeds; what one feed's topic is refused for keeps no other from its own."""
    from k2_market.errors import K2Error
    from k2_market.kinds.shipped import KINDS, kinds_of
    from k2_resources.kafka.feed_topics import declare_topics
    from k2_resources.kafka.schema_registry import SchemaRegistry

    registry = SchemaRegistry(settings.schema_registry_url)
    for name, feed in feeds.items():
        try:
            topics = declare_topics(feed, kinds_of(feed, KINDS), settings.bootstrap_servers, registry)
        except K2Error as error:
            typer.secho(f"{name}: {error}", err=True, fg=typer.colors.YELLOW)
            continue
        for topic in topics:
            if topic.created:
                typer.echo(f"{name}: topic {topic.name} created", err=True)
            for difference in topic.differences:
                typer.secho(f"{name}: {difference}", err=True, fg=typer.colors.YELLOW)
