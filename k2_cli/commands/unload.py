"""``k2 unload``: take a load back."""

from typing import Annotated

import typer


def unload(
    load_id: Annotated[str, typer.Argument(help="The load's id, or its beginning (k2 loads).", metavar="ID")],
    feed: Annotated[str, typer.Option(help="The feed's name.")],
) -> None:
    """Take a load back: send a cancel for every trade that it alone brought.

    Nothing is deleted: the trades stay among the raw rows, the cancels after them, and their days are built again by
    the sensors or by k2 catch-up. Trades that another load brought too stay. All of the load must be ingested; a load
    that has corrections or cancels of trades of others can't be taken back. A cancel is final: the same trade ids do
    not count when they are loaded again. Files without ids get new ones.

    Example: k2 unload 3f2a91c0 --feed asx
    """
    from datetime import UTC, datetime

    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_platform.loading import Loading
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts

    settings = settings_of_home()
    configure_logging("unload", settings)
    keep_counts(settings)
    taken_back = Loading(settings, usable_feed(settings, feed)).unload(load_id, datetime.now(UTC))
    days = ", ".join(str(day) for day in sorted(taken_back.days)) or "none"
    typer.echo(
        f"{feed}: load {taken_back.about[:8]} is taken back by {taken_back.rows:,} cancels (load "
        f"{taken_back.load_id[:8]}); trading days: {days}."
    )
