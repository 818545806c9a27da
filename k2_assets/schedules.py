"""What is done by the clock: a day's bars after its close, today's every few minutes, maintenance once a day is made.

The stale-day sensor makes whatever these leave behind (a daemon that was off, trades that came late).
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_assets.raw_trades import RAW_TRADES
from k2_assets.run_scope import ATTEMPT_TAG, FEED_TAG, VERSION_TAG
from k2_market.build_plan import GRACE
from k2_market.day_builds import stale_days
from k2_market.feed import Feed
from k2_market.table_schemas import DAY
from k2_market.trading_calendar import TradingCalendar
from k2_resources.iceberg_resource import IcebergCatalogResource

BUILD_TIME = timedelta(hours=1)
"""Time that a closed day gets to be built before the tables are maintained and its end is tagged."""

TODAY_MINUTES = 5
"""How often today's bars are made anew while trades come in."""


def closing_schedule(family: FeedFamily) -> dg.ScheduleDefinition:
    """Makes a trading day's bars once its session has closed and its last trades had time to arrive."""
    feed = family.feed
    calendar = TradingCalendar.of(feed)

    @dg.schedule(
        name=f"{feed.name}_bars_after_close",
        job=family.build_job,
        cron_schedule=closing_cron(feed, calendar),
        execution_timezone=feed.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Bars of the trading day that has just closed; holidays are skipped.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, iceberg: IcebergCatalogResource
    ) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        return build_after_close(feed, calendar, iceberg, now)

    return schedule


def today_schedule(family: FeedFamily) -> dg.ScheduleDefinition:
    """Makes today's bars anew every few minutes, if trades came in since."""
    feed = family.feed

    @dg.schedule(
        name=f"{feed.name}_bars_today",
        job=family.build_job,
        cron_schedule=f"*/{TODAY_MINUTES} * * * *",
        execution_timezone=feed.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Today's bars every {TODAY_MINUTES} minutes, if trades came in since.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, iceberg: IcebergCatalogResource
    ) -> dg.RunRequest | dg.SkipReason:
        return request_today(feed, iceberg, context.scheduled_execution_time)

    return schedule


def maintenance_schedule(family: FeedFamily) -> dg.ScheduleDefinition:
    """Maintains a feed's tables once a day, when the day that has closed has had time to be built."""
    feed = family.feed
    calendar = TradingCalendar.of(feed)

    @dg.schedule(
        name=f"{feed.name}_maintenance_after_close",
        job=family.maintenance_job,
        cron_schedule=closing_cron(feed, calendar, GRACE + BUILD_TIME),
        execution_timezone=feed.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Small files of closed days put together, the day's end tagged, unreferenced files removed.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        return maintain_after_close(feed, calendar, now)

    return schedule


def maintain_after_close(feed: Feed, calendar: TradingCalendar, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """The maintenance of the trading day that closed last, at a moment when it usually has been built."""
    day = _day_that_closed(calendar, now - GRACE - BUILD_TIME)
    if not calendar.is_trading_day(day):
        return dg.SkipReason(f"{day} is no trading day of {calendar.calendar_name}")
    return dg.RunRequest(run_key=f"maintenance-{day}", partition_key=day.isoformat(), tags={FEED_TAG: feed.name})


def request_today(feed: Feed, iceberg: IcebergCatalogResource, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """The run that makes today's bars anew, if trades came in since they were made."""
    calendar = TradingCalendar.of(feed)
    today = calendar.trading_day_of(now)
    if now >= calendar.closes_at(today) + GRACE:
        return dg.SkipReason(f"{today} has closed; its bars are made after the close")
    return _request_if_stale(feed, iceberg, today, f"today-{today}")


def closing_cron(feed: Feed, calendar: TradingCalendar, after: timedelta = GRACE) -> str:
    """Every day some time after the usual close, in the exchange's time zone."""
    usual = calendar.closes_at(calendar.next_trading_day(feed.start_date)) + after
    local = usual.astimezone(feed.zone)
    return f"{local.minute} {local.hour} * * *"


def build_after_close(
    feed: Feed, calendar: TradingCalendar, iceberg: IcebergCatalogResource, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """The run for the trading day that closed last, at a moment when a session usually has."""
    day = _day_that_closed(calendar, now - GRACE)
    if not calendar.is_trading_day(day):
        return dg.SkipReason(f"{day} is no trading day of {calendar.calendar_name}")
    return _request_if_stale(feed, iceberg, day, f"close-{day}")


def _day_that_closed(calendar: TradingCalendar, moment: datetime) -> date:
    """The day whose usual close a moment is."""
    day = calendar.trading_day_of(moment)
    return day - timedelta(days=1) if calendar.always_open else day  # which closes at midnight, where the next begins


def _request_if_stale(
    feed: Feed, iceberg: IcebergCatalogResource, day: date, key: str
) -> dg.RunRequest | dg.SkipReason:
    versions = iceberg.raw_table(feed.name, RAW_TRADES).view().day_versions
    if day not in versions:
        return dg.SkipReason(f"no raw rows for {day}")
    if day not in stale_days(versions, iceberg.day_table(feed.name, DAY.table).builds()):
        return dg.SkipReason(f"{day} is built from its latest raw rows")
    version = str(versions[day])
    return dg.RunRequest(
        run_key=f"{key}-{version}",
        partition_key=day.isoformat(),
        tags={FEED_TAG: feed.name, ATTEMPT_TAG: "1", VERSION_TAG: version},
    )
