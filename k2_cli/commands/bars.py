"""``k2 bars``: a symbol's bars as a table and, in a terminal, a chart."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option
from k2_cli.output.answer_formats import AnswerFormat, write_answer
from k2_market.errors import K2Error

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog

    from k2_market.feeds.feed import Feed
    from k2_resources.settings import Settings


class Interval(StrEnum):
    """The bar widths there are, as ``k2_market.schemas.tables.BAR_INTERVALS`` names them."""

    ONE_MINUTE = "1m"
    FIVE_MINUTES = "5m"
    FIFTEEN_MINUTES = "15m"
    THIRTY_MINUTES = "30m"
    ONE_HOUR = "1h"
    ONE_DAY = "1d"


class BarsRequestError(K2Error):
    """``k2 bars`` was asked for days in the wrong order."""


def bars(
    symbol: Annotated[str, typer.Argument(help="The symbol, as the exchange writes it.")],
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    day: Annotated[AskedDay, day_option("--date", "The trading day at the exchange.")],
    to: Annotated[AskedDay | None, day_option("--to", "The last trading day, if more than one.")] = None,
    interval: Annotated[Interval, typer.Option(help="How long a bar is.")] = Interval.ONE_MINUTE,
    form: Annotated[AnswerFormat, typer.Option("--format", help="How the bars are written.")] = AnswerFormat.TABLE,
    output: Annotated[Path | None, typer.Option(help="The file to write to, instead of standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --output if it is there.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="Bars that a table shows; 0 shows all.")] = 40,
) -> None:
    """Show a symbol's bars. Times are UTC; days are trading days at the exchange.

    Example: k2 bars BHP --feed asx --date 2014-03-11 --interval 15m
    """
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.output.foreign_notice import warn_of_foreign_tables
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.query.answer import Answer

    settings = settings_of_home()
    zone = UTC if all(each is None or each.on for each in (day, to)) else declared_feed(settings, feed).zone
    first, last = day.date(zone), (to or day).date(zone)
    if last < first:
        raise BarsRequestError(f"--to {last} lies before --date {first}. Give the earlier day as --date.")
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    check_feed(feed, catalog, settings)
    warn_of_foreign_tables(catalog, [feed])
    found = _find(catalog, settings, feed, interval, symbol, first, last)
    if form is AnswerFormat.TABLE and output is None:
        _show(found, f"{symbol} · {feed} · {interval}", interval is Interval.ONE_DAY, rows)
    else:
        write_answer(Answer(found.schema, iter(found.to_batches())), form, output, rows, replace=force)


def check_feed(feed: str, catalog: Catalog, settings: Settings) -> None:
    """Refuse a feed that nobody declares.

    Raises:
        UnknownFeedError: It has no tables and no feed file; names those that have.
        FeedFileError: It has no tables and its file was refused.
    """
    if catalog.namespace_exists(feed):
        # Reading all feed files takes longer than all the rest.
        return
    declared_feed(settings, feed)


def declared_feed(settings: Settings, name: str) -> Feed:
    """Read the feed of a name from the feed files."""
    from k2_market.feeds.feed import feed_named, load_feeds

    return feed_named(load_feeds(settings.feed_directories), name)


def _find(
    catalog: Catalog, settings: Settings, feed: str, interval: Interval, symbol: str, first: date, last: date
) -> pa.Table:
    from k2_market.schemas.tables import BAR_INTERVALS
    from k2_resources.query.bar_queries import BarQueries, NoBars, NoBarsYet

    width = next(each for each in BAR_INTERVALS if each.name == interval)
    with BarQueries(catalog, feed, width, settings.home / "spill") as queries:
        try:
            return queries.bars(symbol, first, last)
        except NoBarsYet:
            raise
        except NoBars as error:
            reason = _why_closed(settings, feed, first) if first == last else None
            raise NoBars(f"{error} {reason}." if reason else str(error)) from error


def _why_closed(settings: Settings, feed: str, day: date) -> str | None:
    from k2_market.feeds.closed_days import why_no_session
    from k2_market.feeds.trading_calendar import TradingCalendar

    try:
        declared = declared_feed(settings, feed)
        return why_no_session(TradingCalendar.of(declared), day, datetime.now(declared.zone).date())
    except K2Error:
        return None  # without a feed's file, or its sessions, the days nearby are all that can be said


def _show(found: pa.Table, title: str, daily: bool, rows: int) -> None:
    from rich.console import Console

    from k2_cli.output.bar_table import bar_columns
    from k2_cli.output.table_display import show_columns

    console = Console(highlight=False)
    console.print(f"[bold]{title}[/bold]", highlight=False)
    show_columns(bar_columns(found, daily, rows), console)
    if console.is_terminal and found.num_rows > 1 and not console.options.ascii_only:
        from k2_cli.output.terminal_chart import candle_chart

        console.print(candle_chart(found, console.width))
