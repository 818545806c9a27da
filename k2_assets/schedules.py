"""Defines the schedule that rebuilds the bars of open days every few minutes.

What a close brings about is not done by the hour but by the calendar: see ``k2_sensors.session_close_sensors``.
"""

from datetime import UTC, date, datetime

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_assets.records.partitions import latest_of_session, sessions_of
from k2_assets.records.run_tags import ATTEMPT_TAG, FEED_TAG, VERSION_TAG
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.plans.build_plan import is_open
from k2_market.plans.day_builds import DayBuild, Versions, stale_days
from k2_resources.dagster.resources import IcebergCatalogResource

TODAY_MINUTES = 5
"""Interval at which an open day's bars are built again while trades come in."""


def today_schedule(family: FeedFamily) -> dg.ScheduleDefinition:
    """Make the bars of open days anew every few minutes, if trades came in since."""
    feed, kind = family.feed, family.kind

    @dg.schedule(
        name=f"{family.name}_bars_today",
        job=family.build_job,
        cron_schedule=f"*/{TODAY_MINUTES} * * * *",
        execution_timezone=feed.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Builds trades and bars of the session that is open every {TODAY_MINUTES} minutes, if trades came "
        "in since: bars of today are never much older than that.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, iceberg: IcebergCatalogResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        return open_day_builds(feed, kind, iceberg, now) or dg.SkipReason("no open day has new raw rows")

    return schedule


def open_day_builds(feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, now: datetime) -> list[dg.RunRequest]:
    """Request a run for each open day that has raw rows newer than its bars, oldest first.

    There can be two: trades of an evening session carry the next day's date while this day's still come in.
    """
    versions, stale = _versions(feed, kind, iceberg)
    calendar = TradingCalendar.of(feed)
    sessions = sessions_of(calendar, (day for day in stale if is_open(day, calendar, now)))
    return [_request(feed, session, versions, "today") for session in sessions]


def build_if_stale(
    feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource, day: date
) -> dg.RunRequest | dg.SkipReason:
    """Request the run that makes a day that has just closed, if trades came in since it was made."""
    versions, stale = _versions(feed, kind, iceberg)
    dates = TradingCalendar.of(feed).dates_reported_with(day)
    if not versions.keys() & {*dates}:
        return dg.SkipReason(f"no raw rows for {day}")
    if not {*stale} & {*dates}:
        return dg.SkipReason(f"{day} is built from its latest raw rows")
    return _request(feed, day, versions, "close")


def builds_of_last(feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource) -> dict[date, DayBuild]:
    """Read what each day of the table that a build makes last was made from; none where nothing is built."""
    return {} if kind.last_table is None else iceberg.day_table(feed.name, kind.last_table).builds()


def _versions(feed: Feed, kind: RawKind, iceberg: IcebergCatalogResource) -> tuple[Versions, list[date]]:
    """Read the version of each day's raw rows, and list the days whose bars are behind theirs."""
    versions = iceberg.raw_table(feed.name, kind).view().day_versions
    return versions, stale_days(versions, builds_of_last(feed, kind, iceberg))


def _request(feed: Feed, day: date, versions: Versions, why: str) -> dg.RunRequest:
    """Request the build of a session, of which some date has raw rows."""
    version = str(latest_of_session(TradingCalendar.of(feed), versions)[day])
    return dg.RunRequest(
        run_key=f"{why}-{day}-{version}",
        partition_key=day.isoformat(),
        tags={FEED_TAG: feed.name, ATTEMPT_TAG: "1", VERSION_TAG: version},
    )
