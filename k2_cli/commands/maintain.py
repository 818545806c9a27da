"""``k2 maintain``: run a feed's daily maintenance now, without a daemon."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option

if TYPE_CHECKING:
    from datetime import date

    from k2_resources.maintenance.feed_maintenance import MaintenancePlan, MaintenanceResult


def maintain(
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    day: Annotated[
        AskedDay | None,
        day_option("--date", "The trading day that has closed; the latest unless given."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is to do, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Put small files of closed days together, tag the day's end, and remove files that nothing refers to.

    Tables of an earlier version get the properties that they lack first.

    The daemon does the same after each close. It may run beside ingestion, builds and readers, at any time. A day that
    is not the latest to have closed gets no tag, since the tables are not as they were at its end.

    Example: k2 maintain --feed asx --dry-run
    """
    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_market.kinds.trades import TRADES
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.maintenance.feed_maintenance import FeedMaintenance
    from k2_resources.settings import Settings

    settings = Settings.load()
    configure_logging("maintain", settings)
    declared = usable_feed(settings, feed)
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    maintenance = FeedMaintenance(catalog, declared, TRADES, lambda: datetime.now(UTC))
    closed = maintenance.latest_closed() if day is None else day.date(declared.zone)
    if dry_run:
        _print_plan(feed, closed, maintenance.look(closed), as_json)
    else:
        _print_done(feed, closed, maintenance.carry_out(closed), as_json)


def _print_plan(feed: str, day: "date", plan: "MaintenancePlan", as_json: bool) -> None:
    groups = plan.compaction.groups
    _print(
        {
            "feed": feed,
            "date": str(day),
            "dry_run": True,
            "properties_to_set": {name: dict(each) for name, each in plan.properties.items() if each},
            "days_to_compact": [str(each) for each in plan.compaction.days],
            "files_to_replace": sum(len(each.files) for each in groups),
            "files_to_write": len(groups),
            "file_groups_left": plan.compaction.groups_left,
            "tags_to_set": {name: each.added for name, each in plan.tags.items() if each.added},
            "tags_to_remove": {name: list(each.removed) for name, each in plan.tags.items() if each.removed},
            "files_to_remove": sum(len(each.deletable) for each in plan.swept.values()),
        },
        as_json,
    )


def _print_done(feed: str, day: "date", done: "MaintenanceResult", as_json: bool) -> None:
    from k2_assets.maintenance import maintenance_figures

    _print({"feed": feed, "date": str(day), "dry_run": False, **maintenance_figures(done)}, as_json)


def _print(said: dict[str, object], as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(said))
        return
    width = max(map(len, said))
    for name, value in said.items():
        shown = f"{value:,}" if type(value) is int else _listed(value)
        typer.echo(f"{name.replace('_', ' '):<{width}}  {shown}")


def _listed(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(value[:10]) + (f" and {len(value) - 10} more" if len(value) > 10 else "")
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)
