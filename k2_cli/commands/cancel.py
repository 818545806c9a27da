"""``k2 cancel``: cancel a trade by hand."""

from datetime import datetime
from typing import Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option


def cancel(
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    symbol: Annotated[str, typer.Option(help="The trade's symbol.")],
    trade_id: Annotated[str, typer.Option("--trade-id", help="Its id, as it was sent.")],
    day: Annotated[AskedDay | None, day_option("--date", "Its trading day.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Its venue, where venues number trades alike.")] = None,
) -> None:
    """Send the cancel of a trade: a CANCEL message with the trade's own fields. A cancel is final.

    The trade's day is built again by the sensors or by k2 catch-up (docs/corrections.md). The message is recorded
    (k2 loads).

    Example: k2 cancel --feed asx --symbol BHP --trade-id 4711
    """
    from datetime import UTC

    from k2_cli.inputs.amendment_request import named_trade, sent_line
    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_platform.loading import Loading
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts

    settings = settings_of_home()
    configure_logging("cancel", settings)
    keep_counts(settings)
    declared = usable_feed(settings, feed)
    named = named_trade(symbol, trade_id, None if day is None else day.date(declared.zone), exchange)
    before = Loading(settings, declared).cancel(named, datetime.now(UTC))
    typer.echo(sent_line(feed, named, before, None))
