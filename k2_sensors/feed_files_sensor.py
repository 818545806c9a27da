"""The feed-files sensor: shows in Dagster's UI which feed files were refused. There is one only where some were.

A refused file has no assets that could show it, so its reason is the error of this sensor's ticks. People are alerted
of it by the ingest alarm sensor, once.
"""

from collections.abc import Sequence

import dagster as dg

from k2_market.errors import FeedFileError
from k2_market.feed import RefusedFile

INTERVAL_SECONDS = 300


def build_feed_files_sensor(refused: Sequence[RefusedFile]) -> dg.SensorDefinition:
    """Make the sensor whose ticks fail with the reasons why files were refused when this process started."""

    @dg.sensor(
        name="feed_files_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Feeds that are not here: {'; '.join(map(str, refused))}",
    )
    def feed_files_sensor() -> dg.SkipReason:
        raise FeedFileError(
            f"{len(refused)} feed files were refused; the other feeds go on. Correct them and restart the stack "
            f"(k2 down, k2 up). {'; '.join(map(str, refused))}"
        )

    return feed_files_sensor
