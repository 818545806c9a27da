"""``k2 rebuild``: rebuild days that were built under other rules than the feed's file has now."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option


def rebuild(
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    first: Annotated[AskedDay | None, day_option("--from", "The first day; all unless given.")] = None,
    last: Annotated[AskedDay | None, day_option("--to", "The last day.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which days there are, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Build the days anew that were built under other rules: conditions, zone, calendar, day's hour, an earlier K2's.

    A day keeps the rules it was built under, also when late trades have it built again, until this command or a
    materialization from Dagster's UI adopts those of the feed's file. It may run beside the daemon; interrupted, it
    goes on with what is left when it is run again.

    Exit code 0 when no such day is left, 1 when a build failed; that day stays as it was.

    Example: k2 rebuild --feed asx --from 2014-03-10 --to 2014-03-14
    """
    import json

    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_platform.catch_up import local_instance, outdated_days_of, rebuild_feed
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts
    from k2_resources.settings import Settings

    settings = Settings.load()
    configure_logging("rebuild", settings)
    keep_counts(settings)
    declared = usable_feed(settings, feed)
    days = outdated_days_of(
        settings, declared, *(None if each is None else each.date(declared.zone) for each in (first, last))
    )
    failed = []
    if days and not dry_run:
        with local_instance(settings) as instance:
            failed = rebuild_feed(settings, declared, days, instance, lambda: datetime.now(UTC))
    if as_json:
        shown = {"feed": feed, "dry_run": dry_run, "days": list(map(str, days)), "failed": list(map(str, failed))}
        typer.echo(json.dumps(shown))
    else:
        typer.echo(_summary(feed, len(days), len(failed), dry_run))
    if failed:
        raise typer.Exit(1)


def _summary(feed: str, days: int, failed: int, dry_run: bool) -> str:
    if not days:
        return f"{feed}: every day was built under the rules of the feed's file."
    if dry_run:
        return f"{feed}: {days:,} days were built under other rules and would be rebuilt."
    return f"{feed}: {days - failed:,} days rebuilt, {failed:,} failed."
