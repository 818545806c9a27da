"""What the sensors ask of Dagster's run records: by status and time, however many runs a job ever had."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from k2_assets.feed_family import build_job_name, ingest_job_name
from k2_assets.run_scope import VERSION_TAG
from k2_market.feed import Feed, load_feeds
from k2_market.offset_ranges import OffsetRange
from k2_sensors import run_records
from k2_sensors.run_records import failed_builds, failed_ingests, ingest_op, ingests_in_flight

FEEDS = Path(__file__).resolve().parents[2] / "feeds"
CONFIG = {"topic_id": "t", "ranges": {"0": [[0, 5]]}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def feed() -> Feed:
    return load_feeds([FEEDS])["asx"]


@pytest.fixture(params=["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def somewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ingest(instance: dg.DagsterInstance, feed: Feed, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    run_config = {"ops": {ingest_op(feed): {"config": CONFIG}}}
    return create_run_for_test(instance, job_name=ingest_job_name(feed), status=status, run_config=run_config)


@pytest.mark.usefixtures("somewhere")
def test_a_failed_run_is_looked_at_for_a_day(
    instance: dg.DagsterInstance, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(instance, feed, dg.DagsterRunStatus.FAILURE)
    ingest(instance, feed, dg.DagsterRunStatus.SUCCESS)
    tags = {VERSION_TAG: "7"}
    create_run_for_test(instance, job_name=build_job_name(feed), status=dg.DagsterRunStatus.CANCELED, tags=tags)

    assert [list(run.ranges) for run in failed_ingests(instance, feed, datetime.now(UTC))] == [
        [OffsetRange("t", 0, 0, 5)]
    ]
    assert [run.raw_version for run in failed_builds(instance, feed, datetime.now(UTC))] == [7]

    monkeypatch.setattr(run_records, "_RECENT", timedelta(0))
    assert failed_ingests(instance, feed, datetime.now(UTC)) == failed_builds(instance, feed, datetime.now(UTC)) == ()


def test_runs_of_another_feed_and_runs_that_ended_are_in_nobodys_way(instance: dg.DagsterInstance, feed: Feed) -> None:
    other = load_feeds([FEEDS])["sim"]
    under_way = ingest(instance, feed, dg.DagsterRunStatus.STARTED)
    for feed_, status in ((feed, dg.DagsterRunStatus.SUCCESS), (other, dg.DagsterRunStatus.STARTED)):
        ingest(instance, feed_, status)

    assert [run.run_id for run in ingests_in_flight(instance, feed)] == [under_way.run_id]
