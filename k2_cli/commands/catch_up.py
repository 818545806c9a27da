"""``k2 catch-up``: run what is pending of a feed until nothing is, without a daemon; for cron and for tests."""

from datetime import UTC, datetime
from typing import Annotated

import typer


def catch_up(
    feed: Annotated[list[str] | None, typer.Option(help="A feed's name; all feeds unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Run the sensors' own plans and jobs until nothing is pending: messages to rows, days to bars.

    Exit code 0 when nothing is pending any more. 1 when a run failed, when something is pending all the same (a failed
    range that rests, a run of the daemon), when a feed is halted or can't be looked at, or, of all feeds, when a
    feed's file was refused. What concerns one feed keeps no other from being caught up.
    """
    from k2_cli.inputs.declared_feeds import usable_feed, usable_feeds
    from k2_market.kinds.shipped import KINDS
    from k2_platform.catch_up import catch_up_feeds, caught_up_table, local_instance
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts
    from k2_resources.settings import Settings

    settings = Settings.load()
    configure_logging("catch-up", settings)
    keep_counts(settings)
    declared = usable_feeds(settings) if not feed else None
    feeds = [usable_feed(settings, name) for name in feed or ()] if declared is None else list(declared.values())
    with local_instance(settings) as instance:
        done = catch_up_feeds(settings, feeds, KINDS, instance, lambda: datetime.now(UTC))
    typer.echo(caught_up_table(done, as_json))
    if not all(each.complete for each in done) or (declared is not None and declared.refused):
        raise typer.Exit(1)
