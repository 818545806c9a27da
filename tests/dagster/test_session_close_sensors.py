"""What follows a close, by calendars with half days, changed hours, evening sessions and clock changes."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.plans.build_plan import GRACE
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.raw.delivery import Delivery
from k2_resources.settings import Settings
from k2_sensors.session_close_sensors import BUILD_TIME, INTERVAL_SECONDS, build_after_close, maintain_after_close

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
STEP = timedelta(minutes=10)
After = Callable[[Feed, IcebergCatalogResource, datetime, str | None], dg.SensorResult]


@pytest.fixture
def iceberg(tmp_path: Path) -> IcebergCatalogResource:
    return IcebergCatalogResource(uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")


def feed(calendar: str, zone: str, start: date, day_starts: time | None = None) -> Feed:
    session = SIM.session.model_copy(update={"day_starts": day_starts})
    return SIM.model_copy(update={"calendar": calendar, "timezone": zone, "start_date": start, "session": session})


def has_rows(iceberg: IcebergCatalogResource, *days: date) -> None:
    rows = [
        {"trade_date": day, "symbol": "SIM01", "kafka_topic_id": "t", "kafka_partition": 0, "kafka_offset": offset}
        for offset, day in enumerate(days)
    ]
    covered = RangeSet.of([OffsetRange("t", 0, 0, len(rows))])
    table = pa.Table.from_pylist(rows, schema=RAW_TRADES)
    iceberg.raw_table("sim", TRADES).commit(Delivery(table, covered, {"t": "trades"}, "run"))


def ticks(
    after: After, of: Feed, iceberg: IcebergCatalogResource, start: datetime, end: datetime, cursor: str | None = None
) -> list[tuple[datetime, dg.RunRequest]]:
    """What a sensor requests from one moment to another, and when."""
    requested = []
    while start < end:
        result = after(of, TRADES, iceberg, start, cursor)
        cursor = result.cursor
        requested += [(start, request) for request in result.run_requests or ()]
        start += STEP
    return requested


CALENDARS = [
    feed("XASX", "Australia/Sydney", date(2013, 12, 23)),
    feed("XASX", "Australia/Sydney", date(2026, 4, 1)),  # clocks go back on the 5th
    feed("XNYS", "America/New_York", date(2026, 11, 24)),
    feed("XNYS", "America/New_York", date(2026, 3, 5)),  # and forward on the 8th
    feed("XTKS", "Asia/Tokyo", date(2024, 10, 30)),
    feed("XHKG", "Asia/Hong_Kong", date(2026, 12, 22)),
    feed("CMES", "America/Chicago", date(2026, 11, 24)),
    feed("24/5", "America/New_York", date(2026, 3, 5), time(17)),
    feed("24/7", "UTC", date(2026, 11, 24)),
    feed("XTKS", "Asia/Tokyo", date(2026, 11, 19), time(16)),
]
IDS = [f"{of.calendar} from {of.start_date}{' by its own hour' if of.session.day_starts else ''}" for of in CALENDARS]


@pytest.mark.parametrize("of", CALENDARS, ids=IDS)
def test_each_session_is_maintained_once_when_it_has_closed_and_had_time_to_be_built(
    of: Feed, iceberg: IcebergCatalogResource
) -> None:
    has_rows(iceberg, of.start_date)
    calendar, days = TradingCalendar.of(of), [of.start_date]
    while len(days) < 8:
        days.append(calendar.next_trading_day(days[-1]))
    closes = {day: calendar.session(day).close for day in days}
    assert list(closes.values()) == sorted(closes.values())
    end = closes[days[-1]] + GRACE + BUILD_TIME + STEP
    requested = ticks(maintain_after_close, of, iceberg, closes[days[0]] + GRACE, end, str(days[0] - timedelta(days=1)))
    assert [request.partition_key for _, request in requested] == list(map(str, days))
    assert [request.run_key for _, request in requested] == [f"maintenance-{day}" for day in days]
    for day, (at, _) in zip(days, requested, strict=True):
        assert timedelta() <= at - (closes[day] + GRACE + BUILD_TIME) < STEP
        assert calendar.last_closed(at - GRACE) == day, "no later session may have closed, or the day gets no tag"


@pytest.mark.parametrize("of", CALENDARS, ids=IDS)
def test_each_session_with_new_rows_is_built_once_half_an_hour_after_its_close(
    of: Feed, iceberg: IcebergCatalogResource
) -> None:
    calendar, days = TradingCalendar.of(of), [of.start_date]
    while len(days) < 6:
        days.append(calendar.next_trading_day(days[-1]))
    has_rows(iceberg, *days)
    end = calendar.closes_at(days[-1]) + GRACE + STEP
    requested = ticks(
        build_after_close, of, iceberg, calendar.closes_at(days[0]), end, str(days[0] - timedelta(days=1))
    )
    assert [request.partition_key for _, request in requested] == list(map(str, days))
    for day, (at, _) in zip(days, requested, strict=True):
        assert timedelta() <= at - (calendar.closes_at(day) + GRACE) < STEP


def test_where_nothing_has_closed_no_table_is_looked_at() -> None:
    of = CALENDARS[0]
    noon = TradingCalendar.of(of).session(date(2013, 12, 27)).open + timedelta(hours=2)
    no_tables: Any = None
    for after in (build_after_close, maintain_after_close):
        result = after(of, TRADES, no_tables, noon, "2013-12-24")
        assert (result.run_requests, result.cursor) == ([], "2013-12-24")


def test_a_daemon_that_was_off_acts_on_the_latest_session_that_has_closed(iceberg: IcebergCatalogResource) -> None:
    of = CALENDARS[2]
    has_rows(iceberg, of.start_date, date(2026, 12, 2))
    morning = datetime(2026, 12, 3, 12, tzinfo=UTC)
    for after in (build_after_close, maintain_after_close):
        result = after(of, TRADES, iceberg, morning, "2026-11-24")
        assert [request.partition_key for request in result.run_requests or ()] == ["2026-12-02"]
        assert not after(of, TRADES, iceberg, morning, result.cursor).run_requests


def test_a_feed_without_rows_is_neither_built_nor_maintained(iceberg: IcebergCatalogResource) -> None:
    of = CALENDARS[2]
    for after in (build_after_close, maintain_after_close):
        result = after(of, TRADES, iceberg, datetime(2026, 12, 3, 12, tzinfo=UTC), None)
        assert (result.run_requests, result.cursor) == ([], "2026-12-02")


def test_both_are_sensors_of_their_jobs_that_can_be_switched(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "k2", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    defs = build_defs(settings=settings, feeds={"sim": SIM})
    for name, job in (("sim_closed_day_sensor", "sim_build"), ("sim_maintenance_sensor", "sim_maintenance")):
        sensor = defs.get_sensor_def(name)
        assert (sensor.job_name, sensor.minimum_interval_seconds) == (job, INTERVAL_SECONDS)
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
