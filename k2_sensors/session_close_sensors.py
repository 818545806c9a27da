"""Defines the sensors that follow a feed's closes: they build the closed session's bars, then request maintenance.

A close is when the calendar says, so half days, changed hours, evening sessions and clock changes need no cron. Each
sensor's cursor is the last session that it has acted on. A daemon that was off acts on the latest session that has
closed by then; the stale-day sensor makes the bars of those before it.
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_assets.records.run_tags import FEED_TAG
from k2_assets.schedules import build_if_stale
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.plans.build_plan import GRACE
from k2_resources.dagster.resources import IcebergCatalogResource

INTERVAL_SECONDS = 60

BUILD_TIME = timedelta(hours=1)
"""Time that a closed day gets to be built before the tables are maintained and its end is tagged."""


def closed_day_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """Make a session's bars once it has closed and its last trades had time to arrive."""
    feed, kind = family.feed, family.kind

    @dg.sensor(
        name=f"{family.name}_closed_day_sensor",
        job=family.build_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts the build of a session's trades and bars {GRACE.seconds // 60} minutes after its close "
        f"by calendar {feed.calendar}, when its last trades have had time to arrive.",
    )
    def sensor(context: dg.SensorEvaluationContext, iceberg: IcebergCatalogResource) -> dg.SensorResult:
        return build_after_close(feed, kind, iceberg, datetime.now(UTC), context.cursor)

    return sensor


def maintenance_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """Maintain a feed's tables after each close, when the session has had time to be built."""
    feed, kind = family.feed, family.kind
    minutes = (GRACE + BUILD_TIME).seconds // 60

    @dg.sensor(
        name=f"{family.name}_maintenance_sensor",
        job=family.maintenance_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Small files put together, the session's end tagged, unreferenced files removed: "
        f"{minutes} minutes after the close by calendar {feed.calendar}.",
    )
    def sensor(context: dg.SensorEvaluationContext, iceberg: IcebergCatalogResource) -> dg.SensorResult:
        return maintain_after_close(feed, kind, iceberg, datetime.now(UTC), context.cursor)

    return sensor


def build_after_close(
    feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, now: datetime, cursor: str | None
) -> dg.SensorResult:
    """Request the bars of the session that has closed since the cursor, if its rows are newer than they are."""
    day = _newly_closed(TradingCalendar.of(feed), now - GRACE, cursor)
    return _result(cursor, day, None if day is None else build_if_stale(feed, kind, iceberg, day))


def maintain_after_close(
    feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, now: datetime, cursor: str | None
) -> dg.SensorResult:
    """Request the maintenance of the session that has closed since the cursor, if the feed ever had rows."""
    day = _newly_closed(TradingCalendar.of(feed), now - GRACE - BUILD_TIME, cursor)
    return _result(cursor, day, None if day is None else _maintenance(feed, kind, iceberg, day))


def _newly_closed(calendar: TradingCalendar, instant: datetime, cursor: str | None) -> date | None:
    day = calendar.last_closed(instant)
    return day if cursor is None or day.isoformat() > cursor else None


def _maintenance(
    feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, day: date
) -> dg.RunRequest | dg.SkipReason:
    if day < feed.start_date or not iceberg.raw_table(feed.name, kind).view().rows:
        return dg.SkipReason(f"{feed.name} had no rows by the close of {day}")
    return dg.RunRequest(run_key=f"maintenance-{day}", partition_key=day.isoformat(), tags={FEED_TAG: feed.name})


def _result(cursor: str | None, day: date | None, wanted: dg.RunRequest | dg.SkipReason | None) -> dg.SensorResult:
    if day is None or wanted is None:
        return dg.SensorResult(skip_reason=f"no session has closed since that of {cursor}", cursor=cursor)
    if isinstance(wanted, dg.SkipReason):
        return dg.SensorResult(skip_reason=wanted.skip_message, cursor=day.isoformat())
    return dg.SensorResult(run_requests=[wanted], cursor=day.isoformat())
