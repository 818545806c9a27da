"""The Kafka sensor: asks the plan what to ingest next and requests that run. It keeps no state and reads no trades."""

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
)
from k2_market.ledger import spans_to_json
from k2_market.trading_calendar import TradingCalendar
from k2_resources.iceberg_resource import IcebergCatalogResource
from k2_resources.kafka_resource import KafkaResource
from k2_resources.kafka_topics import KafkaTopics
from k2_sensors.run_records import carried, failed_ingests, ingest_op, ingests_in_flight, plan_tags
from k2_sensors.unreported_commits import report_unreported

INTERVAL_SECONDS = 15


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
    ready = pending_or_waiting(facts)
    if isinstance(ready, Waiting):
        return dg.SkipReason(ready.reason)
    calendar = TradingCalendar.of(feed)
    timestamps = topics.first_timestamps(topic, ready)
    day = first_day(map(calendar.trading_day_of, timestamps.values()), feed.start_date, calendar.trading_day_of(now))
    day_ends = (
        topics.offsets_at(topic, calendar.day_start(day + timedelta(days=1)))
        if len(ready) > MAX_MESSAGES_PER_RUN
        else None
    )
    return _request(feed, plan(facts, ready, day_ends), topic.topic_id, day.isoformat())


def _request(feed: Feed, planned: IngestPlan, topic_id: str, partition_key: str) -> dg.RunRequest:
    config = {
        "topic_id": topic_id,
        "ranges": spans_to_json(planned.ranges),
        "lost": spans_to_json(planned.lost),
    }
    return dg.RunRequest(
        run_key=planned.run_key,
        run_config={"ops": {ingest_op(feed): {"config": config}}},
        partition_key=partition_key,
        tags=plan_tags(feed, planned.attempt),
    )
