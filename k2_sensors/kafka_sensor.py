"""Defines the Kafka sensor: asks the plan what to ingest next and requests that run. It keeps no state."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_assets.names import ingest_op_name
from k2_assets.records.day_records import rows_reported
from k2_assets.records.run_records import carried, failed_ingests, ingests_in_flight, not_run_yet, plan_tags
from k2_assets.records.unreported_commits import ReportedDays, report_unreported
from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.ledger import spans_to_json
from k2_market.plans.build_plan import is_open
from k2_market.plans.check_pacing import FEW_ROWS, checked_with_its_run
from k2_market.plans.failed_runs import Handling
from k2_market.plans.ingest_plan import (
    MAX_MESSAGES_PER_RUN,
    IngestFacts,
    IngestPlan,
    Waiting,
    first_day,
    pending_or_waiting,
    plan,
    recording,
    whole_days,
)
from k2_resources.dagster.resources import IcebergCatalogResource, KafkaResource, SchemaRegistryResource
from k2_resources.kafka.feed_topics import declare_topics
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.view import RawView

INTERVAL_SECONDS = 10
"""Half of what a trade waits for at most; each run costs about three CPU-seconds to start."""


def kafka_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """Make the sensor of a feed's topic of a kind."""
    feed, kind = family.feed, family.kind
    reported = ReportedDays()

    @dg.sensor(
        name=f"{family.name}_kafka_sensor",
        job=family.ingest_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks every {INTERVAL_SECONDS} s for messages in {kind.topic(feed)} that no row has been made of "
        "yet, and starts the run that makes them.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        kafka: KafkaResource,
        iceberg: IcebergCatalogResource,
        registry: SchemaRegistryResource,
    ) -> dg.RunRequest | dg.SkipReason:
        if is_new(feed, kind, kafka.topics(), iceberg):
            declare_topics(feed, [kind], kafka.bootstrap_servers, registry.registry())
            return dg.SkipReason(f"topic {kind.topic(feed)} was created")
        return next_ingest(feed, kind, kafka.topics(), iceberg, context.instance, datetime.now(UTC), reported)

    return sensor


def is_new(feed: Feed, kind: RawKind, topics: KafkaTopics, iceberg: IcebergCatalogResource) -> bool:
    """Say whether a topic was never there; one that was read and is gone has been deleted by somebody."""
    name = kind.topic(feed)
    return topics.state(name) is None and name not in iceberg.raw_table(feed.name, kind).ledger().topic_names.values()


def next_ingest(
    feed: Feed,
    kind: RawKind,
    topics: KafkaTopics,
    iceberg: IcebergCatalogResource,
    instance: dg.DagsterInstance,
    now: datetime,
    reported: ReportedDays | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """Return the ingest run to request now, or why none.

    Args:
        feed: Whose topic is looked at.
        kind: Which of its topics.
        topics: Asks Kafka.
        iceberg: Has the ledger.
        instance: Has the run records.
        now: The time.
        reported: What is known of days reported earlier, to the same records.
    """
    calendar = TradingCalendar.of(feed)
    topic = topics.state(kind.topic(feed))
    if topic is None:
        return dg.SkipReason(f"topic {kind.topic(feed)} does not exist yet")
    raw = iceberg.raw_table(feed.name, kind).view()
    report_unreported(feed, kind, raw, instance, reported)
    facts = IngestFacts(
        topic=topic,
        ledger=raw.ledger,
        in_flight=tuple(carried(run, feed, kind) for run in ingests_in_flight(instance, feed, kind)),
        failed=failed_ingests(instance, feed, kind, now),
        now=now,
    )
    if facts.truncated:
        # A run may have committed what came after the topic was looked at; a log that was cut is still short now.
        facts = replace(facts, topic=topics.state(kind.topic(feed)) or topic)
    record = recording(facts)
    if record is not None:
        session = calendar.reporting_session(calendar.trading_day_of(now))
        return _request(feed, kind, record, topic.topic_id, session, instance)
    ready = pending_or_waiting(facts)
    if isinstance(ready, Waiting):
        return dg.SkipReason(ready.reason)
    timestamps = topics.first_timestamps(topic, ready)
    latest = DayWindow.of(feed, now).last
    day = first_day(_days(timestamps.values(), feed, calendar, now), feed.start_date, latest)
    day_ends = (
        whole_days(ready, lambda of: topics.offsets_at(topic, calendar.day_end(of)), day, latest)
        if len(ready) > MAX_MESSAGES_PER_RUN
        else None
    )
    wanted = plan(facts, ready, day_ends)
    session = calendar.reporting_session(day)
    with_checks = _with_checks(feed, kind, raw, session, len(wanted.ranges), instance, now)
    return _request(feed, kind, wanted, topic.topic_id, session, instance, with_checks)


def _days(instants: Iterable[datetime], feed: Feed, calendar: TradingCalendar, now: datetime) -> Iterator[date]:
    """Give the trading days of records; an instant that the feed can't have is taken for the nearest that it can."""
    earliest = calendar.day_start(feed.start_date)
    return (calendar.trading_day_of(max(earliest, min(each, now))) for each in instants)


def _with_checks(
    feed: Feed, kind: RawKind, raw: RawView, day: date, new: int, instance: dg.DagsterInstance, now: datetime
) -> bool:
    """Say whether a run checks its day, too: if it does not, the unchecked-day sensor has it checked at its time."""
    if raw.rows + new <= FEW_ROWS or not is_open(day, TradingCalendar.of(feed), now):
        return True
    return checked_with_its_run(rows_reported(instance, dg.AssetKey([feed.name, kind.raw_table]), day), new)


def _request(
    feed: Feed,
    kind: RawKind,
    wanted: IngestPlan,
    topic_id: str,
    session: date,
    instance: dg.DagsterInstance,
    with_checks: bool = True,
) -> dg.RunRequest | dg.SkipReason:
    planned = not_run_yet(wanted, instance)
    if planned is None:
        return dg.SkipReason(f"{len(wanted.ranges)} messages are in the hands of a run that has been requested")
    config: dict[str, Any] = {
        "topic_id": topic_id,
        "ranges": spans_to_json(planned.ranges),
        "lost": spans_to_json(planned.lost),
        "truncated": spans_to_json(planned.truncated),
    }
    if planned.isolates:
        config["careful"] = True
    if planned.handling is not Handling.DECODE:
        config["handling"] = planned.handling.value
    return dg.RunRequest(
        run_key=planned.run_key,
        run_config={"ops": {ingest_op_name(feed.name, kind): {"config": config}}},
        partition_key=session.isoformat(),
        tags=plan_tags(feed, planned.attempt, planned.max_seconds),
        asset_selection=None if with_checks else [dg.AssetKey([feed.name, kind.raw_table])],
        asset_check_keys=None if with_checks else [],
    )
