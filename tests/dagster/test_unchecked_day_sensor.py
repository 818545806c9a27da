"""Days whose rows no check has seen are found from Dagster's records, and checked by a run of the real job."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.events import StepMaterializationData
from dagster._core.test_utils import create_run_for_test

from k2_assets.names import ingest_job_name
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors.unchecked_day_sensor import MOST_ATTEMPTS, next_check, unchecked_days

MONDAY, TUESDAY = date(2014, 3, 10), date(2014, 3, 11)
LONG_AFTER = datetime(2014, 6, 2, tzinfo=UTC)
RAW = dg.AssetKey(["asx", "raw_trades"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "k2", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")


@pytest.fixture
def feed(settings: Settings) -> Feed:
    return load_feeds(settings.feed_directories)["asx"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def report_raw(instance: dg.DagsterInstance, day: date) -> None:
    """As the Kafka sensor does for a run that was killed after its commit."""
    instance.report_runless_asset_event(dg.AssetMaterialization(RAW, partition=day.isoformat()))


def commit_raw(settings: Settings, day: date) -> None:
    row = {
        "trade_date": day,
        "symbol": "BHP",
        "exchange_timestamp": datetime(day.year, day.month, day.day, 0, 0, 1, tzinfo=UTC),
        "trade_id": "1",
        "price": Decimal("36.45"),
        "quantity": Decimal(10),
        "kafka_topic_id": "t",
        "kafka_partition": 0,
        "kafka_offset": 0,
    }
    rows = pa.Table.from_pylist([row], schema=RAW_TRADES)
    raw = RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), "asx", TRADES)
    raw.commit(Delivery(rows, RangeSet.of([OffsetRange("t", 0, 0, 1)]), {"t": "trades"}, "killed"))


def carry_out(settings: Settings, feed: Feed, instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    """Run what a request asks for, as Dagster's queue does: the job's part that the request selects."""
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def(ingest_job_name(feed.name, TRADES))
    selected = job.get_subset(asset_selection=set(), asset_check_selection=set(request.asset_check_keys or ()))
    tags = {**request.tags, "dagster/partition": str(request.partition_key)}
    return selected.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success


def test_a_day_reported_for_a_killed_run_is_checked_once_and_nothing_is_made_anew(
    settings: Settings, feed: Feed, instance: dg.DagsterInstance
) -> None:
    commit_raw(settings, MONDAY)
    report_raw(instance, MONDAY)
    request = next_check(feed, TRADES, instance, LONG_AFTER)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2014-03-10"
    assert carry_out(settings, feed, instance, request)

    for check in TRADES.checks:
        record = instance.event_log_storage.get_asset_check_partition_info([dg.AssetCheckKey(RAW, check)])
        assert [each.partition_key for each in record] == ["2014-03-10"]
        assert record[0].is_current
    assert isinstance(next_check(feed, TRADES, instance, LONG_AFTER), dg.SkipReason)


def test_days_are_taken_one_after_the_other_oldest_first(
    settings: Settings, feed: Feed, instance: dg.DagsterInstance
) -> None:
    commit_raw(settings, MONDAY)
    report_raw(instance, TUESDAY)
    report_raw(instance, MONDAY)
    for day in (MONDAY, TUESDAY):
        request = next_check(feed, TRADES, instance, LONG_AFTER)
        assert isinstance(request, dg.RunRequest)
        assert request.partition_key == day.isoformat()
        assert carry_out(settings, feed, instance, request)
    assert isinstance(next_check(feed, TRADES, instance, LONG_AFTER), dg.SkipReason)


def test_rows_that_come_later_are_checked_again(settings: Settings, feed: Feed, instance: dg.DagsterInstance) -> None:
    commit_raw(settings, MONDAY)
    report_raw(instance, MONDAY)
    first = next_check(feed, TRADES, instance, LONG_AFTER)
    assert isinstance(first, dg.RunRequest)
    assert carry_out(settings, feed, instance, first)
    report_raw(instance, MONDAY)
    second = next_check(feed, TRADES, instance, LONG_AFTER)
    assert isinstance(second, dg.RunRequest)
    assert second.run_key != first.run_key


def test_a_day_whose_run_is_under_way_is_left_to_it(feed: Feed, instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, ingest_job_name(feed.name, TRADES), status=dg.DagsterRunStatus.STARTED)
    event = dg.AssetMaterialization(RAW, partition=MONDAY.isoformat())
    instance.report_dagster_event(
        dg.DagsterEvent(
            dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            run.job_name,
            event_specific_data=StepMaterializationData(event),
        ),
        run.run_id,
    )
    assert isinstance(next_check(feed, TRADES, instance, LONG_AFTER), dg.SkipReason)
    instance.report_run_failed(run)
    assert isinstance(next_check(feed, TRADES, instance, LONG_AFTER), dg.RunRequest)


def test_checks_that_end_badly_are_tried_again_under_another_key_and_not_for_ever(
    feed: Feed, instance: dg.DagsterInstance
) -> None:
    report_raw(instance, MONDAY)
    keys = []
    for _ in range(MOST_ATTEMPTS):
        request = next_check(feed, TRADES, instance, LONG_AFTER)
        assert isinstance(request, dg.RunRequest)
        keys.append(request.run_key)
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags))
        assert isinstance(next_check(feed, TRADES, instance, LONG_AFTER), dg.SkipReason)
        instance.report_run_failed(run)
    assert len(set(keys)) == MOST_ATTEMPTS
    assert isinstance(next_check(feed, TRADES, instance, LONG_AFTER), dg.SkipReason)
    report_raw(instance, TUESDAY)
    other = next_check(feed, TRADES, instance, LONG_AFTER)
    assert isinstance(other, dg.RunRequest)
    assert other.partition_key == TUESDAY.isoformat()


def test_a_large_day_that_is_open_rests_after_its_checks_and_a_closed_one_does_not(
    feed: Feed, instance: dg.DagsterInstance
) -> None:
    open_day = date(2034, 3, 13)
    metadata = {"dagster/row_count": 50_000_000}
    report = dg.AssetMaterialization(RAW, partition=open_day.isoformat(), metadata=metadata)
    instance.report_runless_asset_event(report)
    for check in TRADES.checks:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=RAW, check_name=check, passed=True, metadata={}, partition=open_day.isoformat()
        )
        instance.report_runless_asset_event(evaluation)
    instance.report_runless_asset_event(report)
    now = datetime.now(UTC)

    assert isinstance(next_check(feed, TRADES, instance, now + timedelta(minutes=5)), dg.SkipReason)
    assert isinstance(next_check(feed, TRADES, instance, now + timedelta(minutes=9)), dg.RunRequest)
    assert isinstance(next_check(feed, TRADES, instance, datetime(2034, 3, 14, tzinfo=UTC)), dg.RunRequest)


def test_a_small_day_that_is_open_is_checked_at_once(feed: Feed, instance: dg.DagsterInstance) -> None:
    report_raw(instance, date(2034, 3, 13))
    assert isinstance(next_check(feed, TRADES, instance, datetime.now(UTC)), dg.RunRequest)


def test_a_day_is_unchecked_whose_rows_are_newer_than_its_checks_or_that_has_none() -> None:
    assert unchecked_days({MONDAY: 5, TUESDAY: 7}, {MONDAY: 6}) == [TUESDAY]
    assert unchecked_days({MONDAY: 5, TUESDAY: 7}, {MONDAY: 4, TUESDAY: 8}) == [MONDAY]
    assert unchecked_days({}, {MONDAY: 4}) == []
