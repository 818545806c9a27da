"""``k2 demo``: ingest and check a simulated day with faults in it, and real days where the data is there."""

import os
from pathlib import Path

import typer

_REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TRADES = 40_000
SYMBOLS = 40
SEED = 20


def demo() -> None:
    """Start the local stack, produce trades, and wait until the daemon's sensors have made bars of them.

    A simulated day with faults in it always; five days of ASX trades where K2_TEST_DATA has them. The stack goes on
    running: look around, then `k2 down`.
    """
    from datetime import UTC, datetime

    from rich.console import Console

    from k2_cli.stack.local_stack import LocalStack
    from k2_platform.catch_up import feeds_named, local_instance, wait_until_caught_up
    from k2_platform.day_summary import day_states, print_next_steps, summaries, summary_table
    from k2_platform.demo_data import produce_asx, produce_simulated
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts
    from k2_resources.settings import Settings

    console = Console(highlight=False, soft_wrap=False, width=None if Console().is_terminal else 150)
    settings = Settings.load()
    configure_logging("demo", settings)
    keep_counts(settings)
    LocalStack.of(settings).up(report=lambda line: console.print(f"  {line}", style="dim"))
    now = datetime.now(UTC)
    planted = produce_simulated(settings, now, TRADES, SEED, SYMBOLS, console)
    asx = produce_asx(settings, Path(os.environ.get("K2_TEST_DATA", _REAL_DATA)), now, console)
    feeds = feeds_named(settings, ["sim", "asx"] if asx else ["sim"])
    with local_instance(settings) as instance:
        failed = wait_until_caught_up(settings, feeds, instance, console)
        catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
        days = [
            day
            for feed in feeds
            for day in summaries(settings, feed, catalog, instance, day_states(catalog, feed, instance))
        ]
    console.print(summary_table(days, "What came of it"))
    print_next_steps(settings, days, planted, console)
    if failed or not days:
        raise typer.Exit(1)
