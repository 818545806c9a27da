"""``k2 correct``: correct a trade by hand."""

from datetime import datetime
from typing import Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option


def correct(
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    symbol: Annotated[str, typer.Option(help="The trade's symbol.")],
    trade_id: Annotated[str, typer.Option("--trade-id", help="Its id, as it was sent.")],
    price: Annotated[str | None, typer.Option(help="The right price.")] = None,
    quantity: Annotated[str | None, typer.Option(help="The right quantity.")] = None,
    day: Annotated[AskedDay | None, day_option("--date", "Its trading day.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Its venue, where venues number trades alike.")] = None,
) -> None:
    """Send the correction of a trade: a CORRECT message with the trade's own fields and another price or quantity.

    The trade keeps its time and its place; its day is built again by the sensors or by k2 catch-up
    (docs/corrections.md). The message is recorded (k2 loads).

    Example: k2 correct --feed asx --symbol BHP --trade-id 4711 --price 36.45
    """
    from datetime import UTC

    from k2_cli.inputs.amendment_request import decimal_of, named_trade, sent_line
    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_platform.loading import Loading
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts

    values = {name: decimal_of(name, text) for name, text in (("price", price), ("quantity", quantity))}
    settings = settings_of_home()
    configure_logging("correct", settings)
    keep_counts(settings)
    declared = usable_feed(settings, feed)
    named = named_trade(symbol, trade_id, None if day is None else day.date(declared.zone), exchange)
    loading = Loading(settings, declared)
    before, sent = loading.correct(named, values["price"], values["quantity"], datetime.now(UTC))
    typer.echo(sent_line(feed, named, before, sent.row(0, named=True)))
