"""Dead letters that came before their trading day: looked for once a session, tried again when it has come."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster import DagsterInstance
from dagster._core.test_utils import create_run_for_test

from k2_assets.names import ingest_job_name
from k2_market.feeds.feed import Feed
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.raw.delivery import Delivery
from k2_resources.settings import Settings
from k2_sensors.awaited_day_sensor import MOST_ATTEMPTS, RETRY_TAG, next_retry

FILED, AWAITED = date(2026, 11, 16), date(2026, 11, 18)
TOO_EARLY = f"trade_date {AWAITED} outside 2014-03-10..2026-11-17"
BEFORE, AFTER = datetime(2026, 11, 16, 3, tzinfo=UTC), datetime(2026, 11, 17, 3, tzinfo=UTC)
"""Monday and Tuesday, early in Sydney's afternoon: the next session is Tuesday's, then Wednesday's."""


@pytest.fixture
def iceberg(settings: Settings) -> IcebergCatalogResource:
    return IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)


def dead_letters(iceberg: IcebergCatalogResource, *reasons: str | None) -> None:
    rows = [
        {
            "trade_date": FILED,
            "kafka_topic_id": "t",
            "kafka_partition": 0,
            "kafka_offset": offset,
            "reject_reason": reason,
            "payload": b"",
        }
        for offset, reason in enumerate(reasons)
    ]
    table = pa.Table.from_pylist(rows, schema=RAW_TRADES)
    covered = RangeSet.of([OffsetRange("t", 0, 0, len(rows))])
    iceberg.raw_table("asx", TRADES).commit(Delivery(table, covered, {"t": "topic"}, "a-run"))


def test_a_letter_is_tried_again_when_its_day_has_come_and_not_before(
    feed: Feed, iceberg: IcebergCatalogResource, instance: DagsterInstance
) -> None:
    dead_letters(iceberg, TOO_EARLY, "unknown schema id 7")
    early = next_retry(feed, TRADES, iceberg, instance, BEFORE)
    assert (early.run_requests, early.cursor) == ([], "2026-11-17")
    due = next_retry(feed, TRADES, iceberg, instance, AFTER, early.cursor)
    (request,) = due.run_requests or ()
    assert (request.partition_key, due.cursor) == (str(FILED), "2026-11-17")
    op = request.run_config["ops"]["asx__raw_trades"]
    assert op == {"config": {"dead_letters_of": [str(FILED)]}}


@pytest.mark.parametrize(
    "reason",
    [
        "unknown schema id 7",
        "trade_date 2013-01-01 outside 2014-03-10..2026-11-17",  # before the feed's first day
        "trade_date 2030-01-01 outside 2014-03-10..2026-11-17",  # far ahead
        "trade_date is 14 days after exchange_timestamp",
    ],
)
def test_other_dead_letters_are_left_alone(
    feed: Feed, iceberg: IcebergCatalogResource, instance: DagsterInstance, reason: str
) -> None:
    dead_letters(iceberg, reason)
    assert next_retry(feed, TRADES, iceberg, instance, AFTER).run_requests == []


def test_a_feed_without_a_table_has_nothing_to_try_again(
    feed: Feed, iceberg: IcebergCatalogResource, instance: DagsterInstance
) -> None:
    found = next_retry(feed, TRADES, iceberg, instance, AFTER)
    assert (found.run_requests, found.cursor) == ([], "2026-11-18")


def test_between_two_sessions_neither_table_nor_records_are_asked(feed: Feed) -> None:
    nothing: Any = None
    found = next_retry(feed, TRADES, nothing, nothing, AFTER + timedelta(hours=5), "2026-11-18")
    assert (found.run_requests, found.cursor) == ([], "2026-11-18")


def test_while_a_run_tries_no_other_is_started_and_the_session_is_not_ticked_off(
    feed: Feed, iceberg: IcebergCatalogResource, instance: DagsterInstance
) -> None:
    dead_letters(iceberg, TOO_EARLY)
    tags = {RETRY_TAG: "asx/2026-11-18"}
    create_run_for_test(
        instance, job_name=ingest_job_name(feed.name, TRADES), status=dg.DagsterRunStatus.STARTED, tags=tags
    )
    found = next_retry(feed, TRADES, iceberg, instance, AFTER, "2026-11-17")
    assert (found.run_requests, found.cursor) == ([], "2026-11-17")


def test_runs_that_leave_letters_behind_are_few_a_session(
    feed: Feed, iceberg: IcebergCatalogResource, instance: DagsterInstance
) -> None:
    dead_letters(iceberg, TOO_EARLY)
    keys = []
    for _ in range(MOST_ATTEMPTS):
        (request,) = next_retry(feed, TRADES, iceberg, instance, AFTER, "2026-11-17").run_requests or ()
        keys.append(request.run_key)
        failed = dg.DagsterRunStatus.FAILURE
        create_run_for_test(instance, job_name=ingest_job_name(feed.name, TRADES), status=failed, tags=request.tags)
    assert len(set(keys)) == MOST_ATTEMPTS
    given_up = next_retry(feed, TRADES, iceberg, instance, AFTER, "2026-11-17")
    assert (given_up.run_requests, given_up.cursor) == ([], "2026-11-18")
    assert (
        len(next_retry(feed, TRADES, iceberg, instance, AFTER + timedelta(days=1), "2026-11-18").run_requests or ())
        == 1
    )


def test_the_run_that_is_requested_is_one_of_the_ingest_job(
    settings: Settings, feed: Feed, iceberg: IcebergCatalogResource, instance: DagsterInstance
) -> None:
    dead_letters(iceberg, TOO_EARLY)
    (request,) = next_retry(feed, TRADES, iceberg, instance, AFTER).run_requests or ()
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def(ingest_job_name(feed.name, TRADES))
    result = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        run_config=dict(request.run_config or {}),
        tags=request.tags,
    )
    (made,) = result.asset_materializations_for_node("asx__raw_trades")
    assert (made.partition, made.metadata["rows_added"].value) == (str(FILED), 0)
    (reason,) = iceberg.raw_table("asx", TRADES).view().read_day(FILED)["reject_reason"].to_pylist()
    assert reason == "empty value"
    assert next_retry(feed, TRADES, iceberg, instance, AFTER).run_requests == []
