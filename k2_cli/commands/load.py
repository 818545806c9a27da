"""``k2 load``: produce trades from files to a feed's Kafka topic."""

from typing import Annotated

import typer

from k2_market.errors import K2Error
from k2_market.sources.format import SourceFormat


class NotLoadedYet(K2Error):
    """There is no reader for messages of a kind."""


def load(
    files: Annotated[list[str], typer.Argument(help="Files, directories or patterns; gzip too.", metavar="FILE...")],
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    kind: Annotated[str | None, typer.Option(help="What the files hold; trades unless given.")] = None,
    source_format: Annotated[SourceFormat, typer.Option("--format", help="The files' shape.")] = SourceFormat.CSV,
    again: Annotated[bool, typer.Option("--again", help="Load what was loaded before all the same.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Produce trades from files to a feed's topic, in time order over all files; if a row is wrong, none of them.

    A csv file has a header with symbol, exchange_timestamp (ISO 8601 with its offset, or whole microseconds since
    1970 UTC), price, quantity and, if there, trade_id, side, conditions (| between them), sequence_number,
    trade_date, action, corrects_trade_id, exchange. Offsets may differ from row to row, as when clocks change; a
    time without one is refused.

    Where a file has no trade ids, they are made of its content, the trading day and the row.

    Each load is recorded (k2 loads) and can be taken back (k2 unload). A file whose content was loaded before is
    refused, whatever its name, and so is one with a trading day whose rows (symbol, time, price, quantity) were loaded
    before under other trade ids; --again loads them all the same. - is standard input.

    Example: k2 load --feed asx --format asx-tickdata asx-2014-03/trades
    """
    from datetime import UTC, datetime

    from k2_cli.inputs.declared_feeds import usable_feed, warn_of_changed
    from k2_cli.output.produced_report import print_report
    from k2_market.kinds.trades import TRADES
    from k2_platform.producing import produce_files
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts
    from k2_resources.settings import Settings

    if kind not in (None, TRADES.name):
        raise NotLoadedYet(f"--kind {kind}: {kind} are not loaded yet, only {TRADES.name}")
    settings = Settings.load()
    configure_logging("load", settings)
    keep_counts(settings)
    produced = produce_files(settings, usable_feed(settings, feed), files, source_format, datetime.now(UTC), again)
    print_report(produced, as_json)
    warn_of_changed(settings)
