"""``k2 repair``: bring a feed's raw rows in line with Kafka and the ledger."""

from typing import Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option
from k2_market.errors import K2Error


class RepairRequestError(K2Error):
    """``k2 repair`` was asked for no repair, or for several at once."""


def repair(
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    day: Annotated[AskedDay | None, day_option("--date", "The trading day to read from Kafka again.")] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Decode dead letters again; those of --date, or all.")
    ] = False,
    roll_forward: Annotated[
        bool, typer.Option("--roll-forward", help="Undo a rollback of the table to an older snapshot.")
    ] = False,
    unhalt: Annotated[
        bool, typer.Option("--unhalt", help="Read a halted topic on, where its log has what was ingested.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is to do, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Repair a feed's raw rows; the ledger's ranges stay as they are. Does nothing where nothing is wrong.

    --date reads the day's messages from Kafka again, and those that have no row, and replaces the day's rows by them in
    one commit. Rows that Kafka does not retain any more stay.

    --dead-letters decodes dead letters from their kept bytes, after a schema or a reader was mended; those that decode
    move to their trading day, a commit for each day that they were filed under. Messages that were set aside are tried
    last, each by itself; without --date, offsets that were set aside unread are read again, too.

    --roll-forward makes the snapshot current that the ledger belongs to.

    --unhalt shows what the ledger records as cut off from the topic's log, or as lost, and what the log has there.
    Where it has what was ingested the halt ends; where it has something else the halt stays, and the command says why.

    Trades and bars of the days are built again by the sensors, or by k2 catch-up.

    Example: k2 repair --feed asx --date 2014-03-11 --dry-run
    """
    if not (day or dead_letters or roll_forward or unhalt):
        raise RepairRequestError(
            "say what to repair: --date YYYY-MM-DD for a day's rows, --dead-letters for those that would not decode, "
            "--roll-forward for a table that was rolled back, --unhalt for a topic that is halted"
        )
    if roll_forward and (day or dead_letters or unhalt):
        raise RepairRequestError("--roll-forward goes alone: it is of the table, not of days. Roll forward first")
    if unhalt and (day or dead_letters):
        raise RepairRequestError("--unhalt goes alone: it is of the topic, not of days")
    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.output.repair_report import print_day, print_dead_letters, print_roll_forward, print_unhalting
    from k2_market.kinds.trades import TRADES
    from k2_platform.repairing import Repairs
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.settings import Settings

    settings = Settings.load()
    configure_logging("repair", settings)
    declared = usable_feed(settings, feed)
    repairs = Repairs(settings, declared, TRADES, dry_run)
    table = f"{feed}.{TRADES.raw_table}"
    if roll_forward:
        print_roll_forward(table, repairs.roll_forward(), dry_run, as_json)
    elif unhalt:
        print_unhalting(table, repairs.unhalt(), dry_run, as_json)
    elif dead_letters:
        only = None if day is None else day.date(declared.zone)
        found = list(repairs.dead_letters(only))
        print_dead_letters(table, found, repairs.unread() if only is None else None, dry_run, as_json)
    elif day is not None:
        print_day(table, repairs.day(day.date(declared.zone)), dry_run, as_json)
