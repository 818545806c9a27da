"""Imports what K2's processes import, and carries out an empty run, so that Python keeps all of it compiled.

Run by ``make setup``: a run is a process of its own, and compiling takes a third of its start.
"""

import os
import tempfile
from pathlib import Path

import dagster as dg
import dagster._cli
import dagster._daemon.cli
import exchange_calendars  # noqa: F401
import httpx2

import k2_sensors.kafka_sensor  # noqa: F401
from k2_assets.names import ingest_job_name
from k2_market.feeds.feed import load_feeds
from k2_market.kinds.trades import TRADES
from k2_platform.catch_up import local_instance
from k2_platform.definitions import build_defs
from k2_resources.settings import Settings


@dg.asset
def nothing() -> None:
    """An asset that does nothing."""


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("K2_")]:
        del os.environ[name]  # a setting that is wrong is told of by what uses it
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        feeds = load_feeds(settings.feed_directories)
        definitions = build_defs(settings=settings, feeds=feeds)
        for feed in feeds.values():
            definitions.resolve_job_def(ingest_job_name(feed.name, TRADES))
        httpx2.Client().close()
        with local_instance(settings) as instance:
            dg.materialize([nothing], instance=instance)
