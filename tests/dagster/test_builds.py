"""Builds of days through the real job, on a real catalog and a Dagster instance of the test's own."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster import DagsterInstance
from dagster._core.storage.tags import RUN_KEY_TAG
from dagster._core.test_utils import create_run_for_test

from k2_assets import trades
from k2_assets.names import build_job_name
from k2_assets.raw_table import closed_published_days
from k2_assets.records import ingest_runs
from k2_assets.records.partitions import sessions_of
from k2_assets.records.run_scope import days_tag, tagged_days
from k2_assets.records.unreported_commits import ReportedDays, report_unreported
from k2_assets.schedules import open_day_builds
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import KEPT_SNAPSHOTS, open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors.stale_day_sensor import next_build

MONDAY, TUESDAY = date(2014, 3, 10), date(2014, 3, 11)
SENSORS = (
    "kafka_sensor",
    "stale_day_sensor",
    "unchecked_day_sensor",
    "closed_day_sensor",
    "maintenance_sensor",
    "awaited_day_sensor",
)
RAW = dg.AssetKey(["asx", "raw_trades"])
LONG_AFTER = datetime(2014, 4, 1, tzinfo=UTC)


def raw_table(settings: Settings) -> RawTable:
    return RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), "asx", TRADES)


def commit_raw(settings: Settings, day: date, start: int, count: int, run_id: str = "a-run") -> None:
    rows = [
        {
            "trade_date": day,
            "symbol": "BHP",
            "exchange_timestamp": datetime(day.year, day.month, day.day, 0, 0, n % 60, tzinfo=UTC),
            "trade_id": f"{day}-{n}",
            "price": Decimal("36.45"),
            "quantity": Decimal(10),
            "side": "UNKNOWN",
            "conditions": [],
            "action": "NEW",
            "currency": "AUD",
            "kafka_topic_id": "t",
            "kafka_partition": 0,
            "kafka_offset": n,
        }
        for n in range(start, start + count)
    ]
    covered = RangeSet.of([OffsetRange("t", 0, start, start + count)])
    raw_table(settings).commit(
        Delivery(pa.Table.from_pylist(rows, schema=RAW_TRADES), covered, {"t": "trades"}, run_id)
    )


def iceberg(settings: Settings) -> IcebergCatalogResource:
    return IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)


def build(settings: Settings, feed: Feed, instance: DagsterInstance, *days: date) -> dg.ExecuteInProcessResult:
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def("asx_build")
    return job.execute_in_process(
        instance=instance, partition_key=days[0].isoformat(), tags=days_tag(days), raise_on_error=False
    )


def published(settings: Settings, table: str, day: date) -> int:
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    return DayTable(catalog, "asx", table).read_day(day).num_rows


def evaluations(instance: DagsterInstance, run_id: str) -> dict[tuple[str, str, str | None], bool]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = [record.event_log_entry.dagster_event.asset_check_evaluation_data for record in records]
    return {(each.asset_key.to_user_string(), each.check_name, each.partition): each.passed for each in found}


def test_a_run_of_two_days_builds_checks_and_reports_each(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    commit_raw(settings, TUESDAY, 5, 7)
    result = build(settings, feed, instance, MONDAY, TUESDAY)
    assert result.success
    assert [published(settings, "trades", day) for day in (MONDAY, TUESDAY)] == [5, 7]
    results = evaluations(instance, result.run_id)
    for day in (MONDAY, TUESDAY):
        assert results["asx/trades", "unique_trades", str(day)]
        assert results["asx/ohlcv_1d", "roll_up_identity", str(day)]
    for table in ("trades", "ohlcv_1m", "ohlcv_1d"):
        made = instance.get_materialized_partitions(dg.AssetKey(["asx", table]))
        assert made == {"2014-03-10", "2014-03-11"}


def test_a_day_that_its_gate_refuses_stays_as_it_was_and_its_neighbours_are_published(
    settings: Settings, feed: Feed, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    assert build(settings, feed, instance, MONDAY).success
    commit_raw(settings, MONDAY, 5, 3)
    commit_raw(settings, TUESDAY, 8, 7)
    clean_day = trades.clean_day

    def loses_a_trade_of_monday(raw: pa.Table, *arguments: object, **more: object) -> object:
        clean = clean_day(raw, *arguments, **more)  # type: ignore[arg-type]
        return replace(clean, trades=clean.trades.slice(1)) if raw["trade_date"][0].as_py() == MONDAY else clean

    monkeypatch.setattr(trades, "clean_day", loses_a_trade_of_monday)
    result = build(settings, feed, instance, MONDAY, TUESDAY)
    assert not result.success
    assert [published(settings, "trades", day) for day in (MONDAY, TUESDAY)] == [5, 7]
    assert evaluations(instance, result.run_id)["asx/trades", "complete_against_raw", "2014-03-10"] is False


def test_rows_that_come_while_their_day_is_built_are_the_next_builds_and_no_fault_of_this_one(
    settings: Settings, feed: Feed, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    commit_raw(settings, TUESDAY, 5, 7)
    materialized = trades.materialized

    def as_more_come(*made: Any) -> Iterator[Any]:
        commit_raw(settings, MONDAY, 12, 3)
        yield from materialized(*made)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(trades, "materialized", as_more_come)
        result = build(settings, feed, instance, MONDAY, TUESDAY)

    assert result.success
    found = evaluations(instance, result.run_id)
    assert all(found["asx/trades", "complete_against_raw", str(day)] for day in (MONDAY, TUESDAY))
    assert published(settings, "trades", MONDAY) == 5
    again = next_build(feed, TRADES, iceberg(settings), instance, LONG_AFTER)
    assert isinstance(again, dg.RunRequest)
    assert again.partition_key == "2014-03-10"
    assert build(settings, feed, instance, MONDAY).success
    assert published(settings, "trades", MONDAY) == 8


def test_a_day_without_raw_rows_is_built_empty(settings: Settings, feed: Feed, instance: DagsterInstance) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    assert build(settings, feed, instance, TUESDAY).success
    assert published(settings, "ohlcv_1m", TUESDAY) == 0


def test_raw_rows_newer_than_their_build_make_a_day_stale_until_it_is_built(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    request = next_build(feed, TRADES, iceberg(settings), instance, LONG_AFTER)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2014-03-10"
    assert build(settings, feed, instance, MONDAY).success
    assert isinstance(next_build(feed, TRADES, iceberg(settings), instance, LONG_AFTER), dg.SkipReason)
    commit_raw(settings, MONDAY, 5, 1)
    again = next_build(feed, TRADES, iceberg(settings), instance, LONG_AFTER)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != request.run_key


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS])
def test_a_day_whose_run_is_no_longer_looked_at_is_asked_for_under_a_key_that_dagster_has_not_seen(
    settings: Settings,
    feed: Feed,
    instance: DagsterInstance,
    status: dg.DagsterRunStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest_runs, "_RECENT", timedelta(0))
    commit_raw(settings, MONDAY, 0, 5)
    first = next_build(feed, TRADES, iceberg(settings), instance, datetime.now(UTC))
    assert isinstance(first, dg.RunRequest)
    assert first.run_key is not None
    tags = {**first.tags, RUN_KEY_TAG: first.run_key}
    create_run_for_test(instance, job_name=build_job_name(feed.name, TRADES), status=status, tags=tags)

    again = next_build(feed, TRADES, iceberg(settings), instance, datetime.now(UTC))

    assert isinstance(again, dg.RunRequest)
    assert again.run_key != first.run_key


@pytest.mark.parametrize(
    ("severity", "builds"), [(dg.AssetCheckSeverity.ERROR, False), (dg.AssetCheckSeverity.WARN, True)]
)
def test_a_failed_reconciliation_blocks_its_day_and_a_warning_does_not(
    settings: Settings, feed: Feed, instance: DagsterInstance, severity: dg.AssetCheckSeverity, builds: bool
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=RAW,
            check_name="offsets_reconcile",
            passed=False,
            severity=severity,
            partition="2014-03-10",
        )
    )
    assert isinstance(next_build(feed, TRADES, iceberg(settings), instance, LONG_AFTER), dg.RunRequest) is builds


def test_a_commit_whose_run_died_before_its_report_is_reported_once(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, MONDAY, 0, 5, run_id="killed")
    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance) == [MONDAY]
    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance) == []
    commit_raw(settings, MONDAY, 5, 5, run_id="killed, too")
    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance) == [MONDAY]


def test_a_commit_whose_run_is_under_way_is_left_to_it(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    reported = ReportedDays()
    run = create_run_for_test(instance, job_name="asx_ingest", status=dg.DagsterRunStatus.STARTED)
    commit_raw(settings, MONDAY, 0, 5, run_id=run.run_id)
    commit_raw(settings, TUESDAY, 5, 5, run_id="killed")

    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance, reported) == [TUESDAY]
    instance.report_run_failed(run)
    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance, reported) == [MONDAY]
    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance, reported) == []


def test_days_of_more_commits_than_snapshots_are_kept_are_all_reported_and_built(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    days = [MONDAY + timedelta(days=n) for n in range(KEPT_SNAPSHOTS + 5)]
    for n, day in enumerate(days):
        commit_raw(settings, day, n, 1, run_id=f"repair-{n}")

    sessions = sessions_of(TradingCalendar.of(feed), days)
    assert report_unreported(feed, TRADES, raw_table(settings).view(), instance) == [*sessions]
    request = next_build(feed, TRADES, iceberg(settings), instance, LONG_AFTER + timedelta(days=90))
    assert isinstance(request, dg.RunRequest)
    assert list(tagged_days(request.tags)) == days


def test_days_are_built_though_dagsters_records_were_lost(settings: Settings, feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    commit_raw(settings, MONDAY, 0, 5)
    with DagsterInstance.local_temp(str(tmp_path / "before")) as before:
        assert build(settings, feed, before, MONDAY).success
    commit_raw(settings, TUESDAY, 5, 5)

    with DagsterInstance.local_temp(str(tmp_path / "after")) as after:
        request = next_build(feed, TRADES, iceberg(settings), after, LONG_AFTER)

    assert isinstance(request, dg.RunRequest)
    assert list(tagged_days(request.tags)) == [TUESDAY]


def test_every_feed_has_its_jobs_sensors_and_schedules(settings: Settings) -> None:
    defs = build_defs(settings=settings)
    names = {feed: {job.name for job in defs.resolve_all_job_defs()} for feed in ("asx", "hitbtc", "sim")}
    for feed, jobs in names.items():
        assert {f"{feed}_ingest", f"{feed}_build"} <= jobs
        for sensor in SENSORS:
            assert defs.get_sensor_def(f"{feed}_{sensor}").default_status is dg.DefaultSensorStatus.RUNNING
        assert defs.get_schedule_def(f"{feed}_bars_today").default_status is dg.DefaultScheduleStatus.RUNNING


def test_every_open_day_with_new_rows_is_built_the_evening_session_s_too(settings: Settings, feed: Feed) -> None:
    for day in (MONDAY, TUESDAY):
        commit_raw(settings, day, day.day * 10, 5)
    evening_of_monday = TradingCalendar.of(feed).session(MONDAY).close + timedelta(minutes=20)
    requested = open_day_builds(feed, TRADES, iceberg(settings), evening_of_monday)
    assert [each.partition_key for each in requested] == [str(MONDAY), str(TUESDAY)]
    assert len({each.run_key for each in requested}) == 2
    night = evening_of_monday + timedelta(hours=1)
    assert [each.partition_key for each in open_day_builds(feed, TRADES, iceberg(settings), night)] == [str(TUESDAY)]
    assert open_day_builds(feed, TRADES, iceberg(settings), LONG_AFTER) == []


def test_an_open_day_that_is_built_from_its_latest_rows_is_left_alone(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    noon = TradingCalendar.of(feed).session(MONDAY).open + timedelta(hours=2)
    (request,) = open_day_builds(feed, TRADES, iceberg(settings), noon)
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def(build_job_name(feed.name, TRADES))
    assert job.execute_in_process(instance=instance, partition_key=request.partition_key, tags=request.tags).success
    assert open_day_builds(feed, TRADES, iceberg(settings), noon) == []


def test_rows_are_late_only_for_days_that_have_closed(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    calendar = TradingCalendar.of(feed)
    commit_raw(settings, MONDAY, 0, 5)
    commit_raw(settings, TUESDAY, 5, 5)
    assert build(settings, feed, instance, MONDAY, TUESDAY).success
    noon_of_tuesday = calendar.session(TUESDAY).open + timedelta(hours=2)
    assert closed_published_days(iceberg(settings), feed, TRADES, calendar, noon_of_tuesday) == {MONDAY}
    evening = calendar.session(TUESDAY).close + timedelta(hours=1)
    assert closed_published_days(iceberg(settings), feed, TRADES, calendar, evening) == {MONDAY, TUESDAY}
