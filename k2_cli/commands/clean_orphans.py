"""``k2 clean-orphans``: delete files under the feeds' tables that nothing refers to any more."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from k2_market.plans.orphan_files import SweepPlan


def clean_orphans(
    feed: Annotated[list[str] | None, typer.Option(help="A feed's name; all feeds unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is to do, and change nothing.")] = False,
    older_than: Annotated[
        float, typer.Option(metavar="HOURS", help="How long a file rests, unchanged and without reference.")
    ] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Delete files that expired snapshots and killed commits left behind; to be run now and then, as once a day.

    The first look marks files that nothing refers to. A look --older-than hours later deletes those that still have no
    reference, if the table had a commit since. So neither a commit that is under way nor a reader of a snapshot that
    has just expired loses a file; it may run beside both.

    Example: k2 clean-orphans --feed asx --dry-run
    """
    from k2_market.kinds.shipped import KINDS, tables_of
    from k2_platform.catch_up import feeds_named
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
    from k2_resources.settings import Settings

    settings = Settings.load()
    configure_logging("clean-orphans", settings)
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    cleaner = OrphanCleaner(catalog, timedelta(hours=older_than))
    carry_out = cleaner.look if dry_run else cleaner.clean
    swept = {
        f"{each.name}.{table}": sweep
        for each in feeds_named(settings, feed)
        for table in tables_of(KINDS)
        if (sweep := carry_out(each.name, table)) is not None
    }
    _print(swept, dry_run, as_json)


def _print(swept: "dict[str, SweepPlan]", dry_run: bool, as_json: bool) -> None:
    import json

    from rich.console import Console

    from k2_cli.output.table_display import TableColumn, show_columns
    from k2_market.plans.orphan_files import bytes_of

    counted = {
        table: {
            name: {"files": len(files), "bytes": bytes_of(files)}
            for name, files in (
                ("deleted", sweep.deletable),
                ("marked", sweep.resting),
                ("waiting_for_a_commit", sweep.held),
                ("kept", sweep.kept),
            )
        }
        for table, sweep in swept.items()
    }
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "tables": counted}))
        return
    headings = {
        "deleted": "to be deleted" if dry_run else "deleted",
        "marked": "marked, resting",
        "waiting_for_a_commit": "of these, until the table's next commit",
        "kept": "kept",
    }
    columns = [
        TableColumn(heading, [f"{of[name]['files']:,} ({of[name]['bytes']:,} B)" for of in counted.values()], True)
        for name, heading in headings.items()
    ]
    show_columns([TableColumn("table", list(counted), False), *columns], Console(highlight=False))
    if dry_run:
        typer.echo("Dry run: nothing was deleted or marked.")
