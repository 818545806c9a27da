"""Defines the awaited-day sensor: decodes dead letters again whose trading day has begun since.

A producer's session may begin before this machine's clock says so: the message is kept as a dead letter that names the
day it is for. It is looked for when the feed's window of days moves on, which happens once a session, and in the raw
table alone, whose files know which of them hold such rows. A letter that can't be decoded even then is written with its
new reason and is not looked at again.
"""

from datetime import UTC, datetime

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_assets.names import family_name, ingest_op_name
from k2_assets.records.run_records import IN_FLIGHT, plan_tags
from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.raw.repair import days_to_try_again

INTERVAL_SECONDS = 60
RETRY_TAG = ".dagster/k2_dead_letters"
MOST_ATTEMPTS = 3
"""Runs a session; alerts have told of those that failed, and ``k2 repair --dead-letters`` does the same by hand."""


def awaited_day_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """Look for such dead letters once a session, until none is left."""
    feed, kind = family.feed, family.kind

    @dg.sensor(
        name=f"{family.name}_awaited_day_sensor",
        job=family.ingest_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks once a session for messages that were put aside since their trading day had not begun, and "
        "starts the run that decodes them again.",
    )
    def sensor(context: dg.SensorEvaluationContext, iceberg: IcebergCatalogResource) -> dg.SensorResult:
        return next_retry(feed, kind, iceberg, context.instance, datetime.now(UTC), context.cursor)

    return sensor


def next_retry(
    feed: Feed,
    kind: RawKind,
    iceberg: IcebergCatalogResource,
    instance: dg.DagsterInstance,
    now: datetime,
    cursor: str | None = None,
) -> dg.SensorResult:
    """Request the run that decodes dead letters again whose day has come, or say why none.

    Args:
        feed: Whose dead letters.
        kind: Of which messages.
        iceberg: Has the raw table.
        instance: Dagster's records.
        now: The time.
        cursor: The last day of the window for which nothing was left to do.
    """
    window = DayWindow.of(feed, now)
    last = str(window.last)
    if cursor == last:
        return _nothing(f"no session has begun since the window of days ended with {last}", cursor)
    days = days_to_try_again(iceberg.raw_table(feed.name, kind).view(), window)
    if not days:
        return _nothing("no dead letter waits for a day that has come", last)
    name = f"{family_name(feed.name, kind)}/{last}"
    attempts = instance.get_runs(dg.RunsFilter(tags={RETRY_TAG: name}))
    if any(run.status in IN_FLIGHT for run in attempts):
        return _nothing("dead letters are being decoded again", cursor)
    if len(attempts) >= MOST_ATTEMPTS:
        return _nothing(f"{len(attempts)} runs of this session left some; see them, or k2 repair --dead-letters", last)
    config = {"dead_letters_of": [str(day) for day in days]}
    request = dg.RunRequest(
        run_key=f"dead-letters-{name}-{len(attempts) + 1}",
        run_config={"ops": {ingest_op_name(feed.name, kind): {"config": config}}},
        partition_key=window.calendar.reporting_session(days[0]).isoformat(),
        tags={**plan_tags(feed, len(attempts) + 1), RETRY_TAG: name},
    )
    return dg.SensorResult(run_requests=[request], cursor=cursor)


def _nothing(reason: str, cursor: str | None) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=cursor)
