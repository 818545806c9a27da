"""The Kafka sensor: asks the plan what to ingest next and requests that run. It keeps no state and reads no trades."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from k2_assets.feed_family import FeedFamily
from k2_market.feed import Feed
from k2_market.ingest_plan import (
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
from k2_market.ledger import spans_to_json
from k2_market.trading_calendar import TradingCalendar
from k2_resources.iceberg_resource import IcebergCatalogResource
from k2_resources.kafka_resource import KafkaResource
from k2_resources.kafka_topics import KafkaTopics
from k2_sensors.run_records import carried, failed_ingests, ingest_op, ingests_in_flight, not_run_yet, plan_tags
from k2_sensors.unreported_commits import report_unreported

INTERVAL_SECONDS = 10
"""Half of what a trade waits for at most; each run costs about three CPU-seconds to start."""


def kafka_sensor(family: FeedFamily) -> dg.SensorDefinition:
    """The sensor of a feed's trades topic."""

    @dg.sensor(
        name=f"{family.feed.name}_kafka_sensor",
        job=family.ingest_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests a run for what {family.feed.topics.trades} holds and the ledger lacks.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, kafka: KafkaResource, iceberg: IcebergCatalogResource
    ) -> dg.RunRequest | dg.SkipReason:
        return next_ingest(family.feed, kafka.topics(), iceberg, context.instance, datetime.now(UTC))

    return sensor


def next_ingest(
    feed: Feed, topics: KafkaTopics, iceberg: IcebergCatalogResource, instance: dg.DagsterInstance, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """The ingest run to request now, or why none.

    Args:
        feed: Whose topic is looked at.
        topics: Asks Kafka.
        iceberg: Has the ledger.
        instance: Has the run records.
        now: The time.
    """
    calendar = TradingCalendar.of(feed)
    topic = topics.state(feed.topics.trades)
    if topic is None:
        return dg.SkipReason(f"topic {feed.topics.trades} does not exist yet")
    raw = iceberg.raw_table(feed.name).view()
    report_unreported(feed, raw, instance)
    facts = IngestFacts(
        topic=topic,
        ledger=raw.ledger,
        in_flight=tuple(carried(run, feed) for run in ingests_in_flight(instance, feed)),
        failed=failed_ingests(instance, feed),
        now=now,
    )
    if facts.truncated:
        # A run may have committed what came after the topic was looked at; a log that was cut is still short now.
        facts = replace(facts, topic=topics.state(feed.topics.trades) or topic)
    latest = calendar.trading_day_of(now)
    record = recording(facts)
    if record is not None:
        return _request(feed, record, topic.topic_id, latest.isoformat(), instance)
    ready = pending_or_waiting(facts)
    if isinstance(ready, Waiting):
        return dg.SkipReason(ready.reason)
    timestamps = topics.first_timestamps(topic, ready)
    day = first_day(map(calendar.trading_day_of, timestamps.values()), feed.start_date, latest)
    day_ends = (
        whole_days(ready, lambda of: topics.offsets_at(topic, calendar.day_start(of + timedelta(days=1))), day, latest)
        if len(ready) > MAX_MESSAGES_PER_RUN
        else None
    )
    return _request(feed, plan(facts, ready, day_ends), topic.topic_id, day.isoformat(), instance)


def _request(
    feed: Feed, wanted: IngestPlan, topic_id: str, partition_key: str, instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    planned = not_run_yet(wanted, instance)
    if planned is None:
        return dg.SkipReason(f"{len(wanted.ranges)} messages are in the hands of a run that has been requested")
    config = {
        "topic_id": topic_id,
        "ranges": spans_to_json(planned.ranges),
        "lost": spans_to_json(planned.lost),
        "truncated": spans_to_json(planned.truncated),
    }
    return dg.RunRequest(
        run_key=planned.run_key,
        run_config={"ops": {ingest_op(feed): {"config": config}}},
        partition_key=partition_key,
        tags=plan_tags(feed, planned.attempt),
    )
