"""``k2 verify``: recompute what K2 promises, with no code of what wrote it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option
from k2_market.errors import K2Error

if TYPE_CHECKING:
    from k2_market.feeds.feed import Feed
    from k2_market.kinds.raw_kind import RawKind
    from k2_market.verification.invariants import Verification
    from k2_resources.proofs.log_reading import Progress
    from k2_resources.settings import Settings


class Subject(StrEnum):
    """Describes what can be verified."""

    LEDGER = "ledger"
    BARS = "bars"


class NothingToVerify(K2Error):
    """The feed has no table yet."""


def verify(
    subject: Annotated[Subject, typer.Argument(help="What to verify: the raw table, or a day's bars.")],
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    day: Annotated[AskedDay | None, day_option("--date", "One trading day's rows and messages alone.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the broker alone; verify the tables.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Recompute what K2 promises of a feed's tables, and list what does not hold.

    ledger: from the broker (what it still retains), the ledger, the snapshots, the files and the rows. Nothing lost,
    nothing twice, commits that add up to the ledger, rows that say what their messages say (each decoded anew, one at
    a time), files that are there, losses on record. Reads only; ingestion may go on meanwhile.

    bars: trades and bars of a day, or of all days that have closed, from their raw rows, one by one.

    Exit code 0 when all holds, 1 when something does not, or when the broker does not answer.

    Example: k2 verify ledger --feed sim --date 2026-11-20
    """
    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.output.verification_report import print_report, progress_shown
    from k2_market.kinds.trades import TRADES
    from k2_resources.logs.structured_logging import configure_logging

    settings = settings_of_home()
    configure_logging("verify", settings)
    declared = usable_feed(settings, feed)
    of_day = None if day is None else day.date(declared.zone)
    with progress_shown(quiet=as_json) as progress:
        if subject is Subject.LEDGER:
            found = verify_ledger(settings, declared, TRADES, of_day, offline, progress)
        else:
            found = verify_bars(settings, declared, of_day, progress)
    print_report(found, as_json)
    if not found.holds:
        raise typer.Exit(1)


def verify_ledger(
    settings: Settings, feed: Feed, kind: RawKind, day: date | None, offline: bool, progress: Progress
) -> Verification:
    """Verify a feed's raw table of a kind as it is now.

    Raises:
        NothingToVerify: There is no such table.
    """
    from k2_resources.iceberg.catalog import find_table, open_catalog
    from k2_resources.kafka.schema_registry import SchemaRegistry
    from k2_resources.proofs.ledger_proof import prove_ledger
    from k2_resources.proofs.log_reading import LogReading
    from k2_resources.proofs.retained_messages import RetainedMessages

    table = find_table(
        open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, kind.raw_table
    )
    if table is None:
        raise NothingToVerify(f"{feed.name}.{kind.raw_table}: there is no such table yet. Nothing has been ingested")
    if offline:
        return prove_ledger(table, kind, None, day)
    with closing(RetainedMessages(settings.bootstrap_servers, kind.topic(feed))) as messages:
        registry = SchemaRegistry(settings.schema_registry_url)
        return prove_ledger(table, kind, LogReading(feed, kind, messages, registry, day, progress), day)


def verify_bars(settings: Settings, feed: Feed, day: date | None, progress: Progress) -> Verification:
    """Verify the trades and bars of a trading day, or of all that have closed, against their raw rows."""
    from k2_cli.output.foreign_notice import warn_of_foreign_tables
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.proofs.bars_proof import prove_bars

    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    warn_of_foreign_tables(catalog, [feed.name])
    return prove_bars(catalog, feed, None if day is None else [day], datetime.now(UTC), progress)
