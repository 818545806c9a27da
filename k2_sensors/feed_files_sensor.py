"""Defines the feed-files sensor: shows in Dagster's UI which feed files are invalid, and which have changed.

A refused file, and one that came later, have no assets that could show it, so the reason is the error of this sensor's
ticks. People are alerted of it by the ingest alarm sensor, once.
"""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from k2_market.errors import FeedFileError
from k2_market.feeds.feed import RefusedFile
from k2_resources.files.feed_files import changes_between, contents_of

INTERVAL_SECONDS = 300


def build_feed_files_sensor(
    refused: Sequence[RefusedFile] = (), feed_directories: Sequence[Path] = ()
) -> dg.SensorDefinition:
    """Make the sensor whose ticks fail while feed files are refused, or differ from those this process started with.

    Args:
        refused: Files that were refused when the process started.
        feed_directories: Where the feeds' files lie.
    """
    at_start = contents_of(feed_directories)
    not_here = f"Feeds that are not here: {'; '.join(map(str, refused))}" if refused else ""

    @dg.sensor(
        name="feed_files_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=not_here
        or "Fails while feed files are refused or differ from those that Dagster was started with.",
    )
    def feed_files_sensor() -> dg.SkipReason:
        changes = changes_between(at_start, contents_of(feed_directories))
        if refused or changes:
            raise FeedFileError(_reason(refused, changes))
        return dg.SkipReason("The feed files are those that Dagster was started with.")

    return feed_files_sensor


def _reason(refused: Sequence[RefusedFile], changes: Sequence[str]) -> str:
    reasons = []
    if refused:
        reasons.append(
            f"{len(refused)} feed files were refused; the other feeds go on. Correct them and restart the stack "
            f"(k2 down, k2 up). {'; '.join(map(str, refused))}"
        )
    if changes:
        reasons.append(f"Since Dagster was started {', '.join(changes)}. `k2 up` restarts what has to know.")
    return " ".join(reasons)
