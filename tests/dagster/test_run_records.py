"""What the sensors ask of Dagster's run records: by status and time, however many runs a job ever had."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from repository import SHIPPED_FEEDS

from k2_assets.names import build_job_name, ingest_job_name, ingest_op_name
from k2_assets.records import ingest_runs
from k2_assets.records.run_failure import MAX_RANGES_NAMED, begun_tags, failure_tags
from k2_assets.records.run_records import builds_in_flight, carried, failed_builds, failed_ingests, ingests_in_flight
from k2_assets.records.run_tags import ATTEMPT_TAG, DAYS_TAG, PROCESS_TAG, VERSION_TAG
from k2_market.errors import K2Error, LedgerError
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.plans.failed_runs import Cause, FailedRun, Handling, OffsetsAtFault
from k2_resources.kafka.schema_registry import RegistryUnavailable
from k2_resources.kafka.topics import KafkaUnavailable
from k2_sensors.alerts import alerts_of_failure
from k2_sensors.run_watch import end_dead_runs

FEEDS = SHIPPED_FEEDS
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
    run_config = {"ops": {ingest_op_name(feed.name, TRADES): {"config": CONFIG}}}
    return create_run_for_test(
        instance, job_name=ingest_job_name(feed.name, TRADES), status=status, run_config=run_config
    )


@pytest.mark.usefixtures("somewhere")
def test_a_failed_run_is_looked_at_for_a_day(
    instance: dg.DagsterInstance, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(instance, feed, dg.DagsterRunStatus.FAILURE)
    ingest(instance, feed, dg.DagsterRunStatus.SUCCESS)
    tags = {VERSION_TAG: "7"}
    create_run_for_test(
        instance, job_name=build_job_name(feed.name, TRADES), status=dg.DagsterRunStatus.CANCELED, tags=tags
    )

    assert [list(run.ranges) for run in failed_ingests(instance, feed, TRADES, datetime.now(UTC))] == [
        [OffsetRange("t", 0, 0, 5)]
    ]
    assert [run.raw_version for run in failed_builds(instance, feed, TRADES, datetime.now(UTC))] == [7]

    monkeypatch.setattr(ingest_runs, "_RECENT", timedelta(0))
    assert (
        failed_ingests(instance, feed, TRADES, datetime.now(UTC))
        == failed_builds(instance, feed, TRADES, datetime.now(UTC))
        == ()
    )


def test_runs_of_another_feed_and_runs_that_ended_are_in_nobodys_way(instance: dg.DagsterInstance, feed: Feed) -> None:
    other = load_feeds([FEEDS])["sim"]
    under_way = ingest(instance, feed, dg.DagsterRunStatus.STARTED)
    for feed_, status in ((feed, dg.DagsterRunStatus.SUCCESS), (other, dg.DagsterRunStatus.STARTED)):
        ingest(instance, feed_, status)

    assert [run.run_id for run in ingests_in_flight(instance, feed, TRADES)] == [under_way.run_id]


STRANGE_CONFIGS = [
    {"topic_id": "t", "ranges": {"zero": [[0, 5]]}},
    {"topic_id": "t", "ranges": {"0": [[5, 0]]}},
    {"topic_id": "t", "ranges": {"0": [[1, 2, 3]]}},
    {"topic_id": "", "ranges": {"0": [[0, 5]]}},
    {"topic_id": "t", "lost": {"-1": [[0, 5]]}},
    {"topic_id": 7, "ranges": []},
    {"no": "such key"},
    "text",
    None,
]


@pytest.mark.parametrize("config", STRANGE_CONFIGS, ids=str)
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE])
def test_a_run_that_was_told_nonsense_keeps_no_sensor_from_the_others(
    instance: dg.DagsterInstance, feed: Feed, config: object, status: dg.DagsterRunStatus
) -> None:
    strange = {"ops": {ingest_op_name(feed.name, TRADES): {"config": config}}}
    create_run_for_test(instance, job_name=ingest_job_name(feed.name, TRADES), status=status, run_config=strange)
    ingest(instance, feed, dg.DagsterRunStatus.STARTED)
    ingest(instance, feed, dg.DagsterRunStatus.FAILURE)

    in_flight = [carried(run, feed, TRADES) for run in ingests_in_flight(instance, feed, TRADES)]
    assert [list(each) for each in in_flight if each] == [[OffsetRange("t", 0, 0, 5)]]
    assert [list(run.ranges) for run in failed_ingests(instance, feed, TRADES, datetime.now(UTC))] == [
        [OffsetRange("t", 0, 0, 5)]
    ]


STRANGE_TAGS = [
    {DAYS_TAG: "no json"},
    {DAYS_TAG: '["2026-11-31"]'},
    {DAYS_TAG: "7"},
    {DAYS_TAG: "[7]"},
    {"dagster/partition": "yesterday"},
    {VERSION_TAG: "newest"},
    {VERSION_TAG: "-1"},
    {ATTEMPT_TAG: "one"},
    {ATTEMPT_TAG: "-5"},
    {ATTEMPT_TAG: "9" * 4_000},
    {ATTEMPT_TAG: "²"},
    {PROCESS_TAG: "nobody"},
    {PROCESS_TAG: "host/boot/pid/started"},
]


@pytest.mark.parametrize("tags", STRANGE_TAGS, ids=lambda tags: str(tags)[:40])
def test_a_run_with_strange_tags_keeps_no_sensor_from_the_others(
    instance: dg.DagsterInstance, feed: Feed, tags: dict[str, str]
) -> None:
    for job in (ingest_job_name(feed.name, TRADES), build_job_name(feed.name, TRADES)):
        for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE):
            create_run_for_test(instance, job_name=job, status=status, tags={VERSION_TAG: "7", **tags})
    good = {VERSION_TAG: "8", ATTEMPT_TAG: "2", DAYS_TAG: '["2026-11-20"]'}
    create_run_for_test(
        instance, job_name=build_job_name(feed.name, TRADES), status=dg.DagsterRunStatus.FAILURE, tags=good
    )

    builds = failed_builds(instance, feed, TRADES, datetime.now(UTC))
    assert [(run.raw_version, run.attempt) for run in builds if run.days == {date(2026, 11, 20)}] == [(8, 2)]
    assert all(1 <= run.attempt < 10**19 for run in builds)
    assert builds_in_flight(instance, feed, TRADES) == frozenset()
    assert end_dead_runs(instance) == []
    failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert all(isinstance(alerts_of_failure(instance, run), tuple) for run in failed)


def failed_run(
    instance: dg.DagsterInstance,
    feed: Feed,
    error: Exception | None,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.FAILURE,
    began: bool = True,
    **config: object,
) -> FailedRun:
    """What is known of a run that ended with an error, or was killed."""
    run_config = {"ops": {ingest_op_name(feed.name, TRADES): {"config": {**CONFIG, **config}}}}
    tags = {PROCESS_TAG: "host/boot/1/1"}
    run = create_run_for_test(
        instance, job_name=ingest_job_name(feed.name, TRADES), status=status, run_config=run_config, tags=tags
    )
    if began:
        instance.add_run_tags(run.run_id, begun_tags(run.run_id))
    if error is not None:
        instance.add_run_tags(run.run_id, failure_tags(run.run_id, error))
    found = failed_ingests(instance, feed, TRADES, datetime.now(UTC))
    instance.delete_run(run.run_id)
    return found[0]


WHOLE = RangeSet.of([OffsetRange("t", 0, 0, 5)])


def test_a_run_that_failed_for_want_of_something_else_blames_no_message(
    instance: dg.DagsterInstance, feed: Feed
) -> None:
    for error in (KafkaUnavailable("away"), RegistryUnavailable("away"), LedgerError("rolled back"), K2Error("any")):
        assert failed_run(instance, feed, error).cause is Cause.OUTSIDE
    assert failed_run(instance, feed, None, dg.DagsterRunStatus.CANCELED).cause is Cause.OUTSIDE
    assert failed_run(instance, feed, None, began=False).cause is Cause.OUTSIDE


def test_a_run_that_was_killed_or_failed_of_what_nobody_foresaw_may_be_any_messages_fault(
    instance: dg.DagsterInstance, feed: Feed
) -> None:
    for error in (None, RecursionError(), MemoryError(), ZeroDivisionError()):
        found = failed_run(instance, feed, error)
        assert (found.cause, found.ranges, found.handling) == (Cause.UNKNOWN, WHOLE, Handling.DECODE)


def test_a_run_that_names_offsets_blames_these_and_none_that_it_did_not_carry(
    instance: dg.DagsterInstance, feed: Feed
) -> None:
    named = RangeSet.of([OffsetRange("t", 0, 1, 2), OffsetRange("t", 0, 4, 9)])
    found = failed_run(instance, feed, OffsetsAtFault("unreadable", named))
    assert (found.cause, found.ranges) == (Cause.NAMED, named & WHOLE)
    many = RangeSet.of(OffsetRange("t", 0, 2 * n, 2 * n + 1) for n in range(MAX_RANGES_NAMED + 1))
    assert failed_run(instance, feed, OffsetsAtFault("unreadable", many)).cause is Cause.UNKNOWN


def test_what_a_run_was_to_do_is_known_and_what_its_parent_failed_of_is_not_its_own(
    instance: dg.DagsterInstance, feed: Feed
) -> None:
    found = failed_run(instance, feed, None, handling="keep bytes", careful=True)
    assert found.handling is Handling.KEEP_BYTES
    run_config = {"ops": {ingest_op_name(feed.name, TRADES): {"config": CONFIG}}}
    for copied in (begun_tags("its parent"), failure_tags("its parent", OffsetsAtFault("unreadable", WHOLE))):
        create_run_for_test(
            instance,
            job_name=ingest_job_name(feed.name, TRADES),
            status=dg.DagsterRunStatus.FAILURE,
            run_config=run_config,
            tags={PROCESS_TAG: "host/boot/1/1", **copied},
        )
        assert failed_ingests(instance, feed, TRADES, datetime.now(UTC))[0].cause is Cause.OUTSIDE
