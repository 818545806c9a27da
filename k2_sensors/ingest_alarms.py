"""The ingest alarm sensor: looks at what could stand against ingestion and tells a person of it, once.

It waits for every door for a bounded time, so that a door that is silent is told of and does not silence the sensor.
What was told stands in its cursor, which never moves past an alert that was not taken.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from threading import Thread
from typing import TypeVar

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorTick, InstigatorType, TickStatus

from k2_market.alarm_memory import AlarmMemory, AlarmMemoryError, Notice
from k2_market.errors import LedgerError
from k2_market.feed import Feed, RefusedFile
from k2_market.ingest_alarms import FAILED_TICKS, AlarmFacts, FailingSensor, FeedFacts, NoAnswer, Untrusted
from k2_market.ledger import Ledger
from k2_market.topic_state import TopicState
from k2_resources.alert_sink import AlertNotSent, AlertSink, AlertSinkResource
from k2_resources.iceberg_resource import IcebergCatalogResource
from k2_resources.kafka_resource import KafkaResource
from k2_resources.raw_view import TableRolledBack
from k2_resources.schema_registry import SchemaRegistryResource
from k2_resources.structured_logging import get_logger
from k2_sensors.run_records import carried, failed_ingests, ingests_in_flight

INTERVAL_SECONDS = 30

# Dagster ends a tick that takes a minute: the three, and one last post with its retries, stay below that together.
CATALOG_SECONDS = 10.0
KAFKA_SECONDS = 15.0
SENDING_SECONDS = 10.0

_SENSORS_OF_FEED = (
    "kafka_sensor",
    "stale_day_sensor",
    "unchecked_day_sensor",
    "closed_day_sensor",
    "maintenance_sensor",
    "awaited_day_sensor",
)
_SENSORS_OF_ALL = ("run_watch_sensor",)
_ENDED_TICKS = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
_ANY_SCHEMA_ID = 1
_MAX_REASON = 500

_T = TypeVar("_T")
_log = get_logger("alarms")


def build_ingest_alarm_sensor(
    feeds: Iterable[Feed],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    refused: Sequence[RefusedFile] = (),
) -> dg.SensorDefinition:
    """The one sensor that looks at the ingestion of all feeds: that Kafka is away is told once, not once a feed."""
    watched = tuple(feeds)

    @dg.sensor(
        name="ingest_alarm_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status,
        description="Sends an alert for what is lost, what stands still and what does not answer.",
    )
    def ingest_alarm_sensor(
        context: dg.SensorEvaluationContext,
        kafka: KafkaResource,
        iceberg: IcebergCatalogResource,
        registry: SchemaRegistryResource,
        alert_sink: AlertSinkResource,
    ) -> dg.SensorResult:
        facts = replace(look(watched, kafka, iceberg, registry, context.instance, clock()), refused=tuple(refused))
        memory, notices = _memory(context.cursor).after(facts)
        return _tell(memory, notices, alert_sink.sink())

    return ingest_alarm_sensor


def look(
    feeds: Sequence[Feed],
    kafka: KafkaResource,
    iceberg: IcebergCatalogResource,
    registry: SchemaRegistryResource,
    instance: dg.DagsterInstance,
    now: datetime,
) -> AlarmFacts:
    """What there is to know of the feeds' ingestion; takes no longer than its doors are given."""
    # Ledgers before topics: a run that commits in between must not make a ledger look ahead of its topic.
    ledgers = asked(CATALOG_SECONDS, {feed.name: _ledger_of(feed, iceberg) for feed in feeds})()
    client = kafka.topics()
    topics = asked(KAFKA_SECONDS, {feed.name: _state_of(feed, client.state) for feed in feeds})
    schemas = asked(KAFKA_SECONDS, {"": lambda: registry.registry().writer_schemas([_ANY_SCHEMA_ID])})
    found = [
        _with_runs(feed, FeedFacts(feed.name, feed.topics.trades, topic, ledgers[feed.name]), instance, now)
        for feed, topic in zip(feeds, topics().values(), strict=True)
    ]
    answer = schemas()[""]
    return AlarmFacts(
        feeds=tuple(found),
        registry=answer if isinstance(answer, NoAnswer) else None,
        failing=tuple(_failing_sensors(feeds, instance)),
        now=now,
    )


def asked(seconds: float, questions: Mapping[str, Callable[[], _T]]) -> Callable[[], dict[str, _T | NoAnswer]]:
    """Put questions to a door, one after the other, while the caller goes on.

    Args:
        seconds: When to give up what has not been answered. A call that hangs is left behind to its own end: some
            clients wait for as long as the network lets them.
        questions: What to ask, by name.

    Returns:
        Waits and gives each question's answer, in their order; an error is no answer.
    """
    until = time.monotonic() + seconds
    found: dict[str, _T | NoAnswer] = {}

    def ask_all() -> None:
        for name, question in questions.items():
            if time.monotonic() < until:
                found[name] = _answer(question)

    thread = Thread(target=ask_all, daemon=True)
    thread.start()

    def answers() -> dict[str, _T | NoAnswer]:
        thread.join(max(0.0, until - time.monotonic()))
        return {name: found.get(name, NoAnswer(f"none within {seconds:.0f} s")) for name in questions}

    return answers


def _answer(question: Callable[[], _T]) -> _T | NoAnswer:
    try:
        return question()
    except Exception as error:  # whatever it is, a person is told of it
        return NoAnswer(f"{type(error).__name__}: {error}"[:_MAX_REASON])


def _state_of(feed: Feed, state: Callable[[str], TopicState | None]) -> Callable[[], TopicState | None]:
    return lambda: state(feed.topics.trades)


def _ledger_of(feed: Feed, iceberg: IcebergCatalogResource) -> Callable[[], Ledger | Untrusted]:
    def ledger() -> Ledger | Untrusted:
        try:
            return iceberg.raw_table(feed.name).ledger()
        except TableRolledBack as error:
            return Untrusted(str(error), rolled_back=True, ranges=error.ranges)
        except LedgerError as error:
            return Untrusted(str(error))

    return ledger


def _with_runs(feed: Feed, facts: FeedFacts, instance: dg.DagsterInstance, now: datetime) -> FeedFacts:
    """The facts with what runs carry, which matters only where messages wait."""
    topic, ledger = facts.topic, facts.ledger
    if not isinstance(topic, TopicState) or not isinstance(ledger, Ledger) or not topic.readable - ledger.covered:
        return facts
    in_flight = tuple(carried(run, feed) for run in ingests_in_flight(instance, feed))
    return replace(facts, in_flight=in_flight, failed=failed_ingests(instance, feed, now))


def _failing_sensors(feeds: Sequence[Feed], instance: dg.DagsterInstance) -> Iterator[FailingSensor]:
    """The sensors of ours whose last tick failed; those that send alerts are left out, they fail when this one does."""
    watched: dict[str, str | None] = dict.fromkeys(_SENSORS_OF_ALL)
    watched |= {f"{feed.name}_{sensor}": feed.name for feed in feeds for sensor in _SENSORS_OF_FEED}
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        name = state.instigator_name
        if name in watched:
            ticks = instance.get_ticks(
                state.instigator_origin_id, state.selector_id, limit=FAILED_TICKS, statuses=_ENDED_TICKS
            )
            failed = list(takewhile(lambda tick: tick.status is TickStatus.FAILURE, ticks))
            if failed:
                times = tuple(datetime.fromtimestamp(tick.timestamp, UTC) for tick in failed)
                yield FailingSensor(name, watched[name], times, _error_of(failed[0]))


def _error_of(tick: InstigatorTick) -> str:
    error = tick.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "no error was recorded" if error is None else error.message.strip()[:_MAX_REASON]


def _memory(cursor: str | None) -> AlarmMemory:
    """What the last tick left; an empty memory, which tells anew all that stands, where that can't be read."""
    if not cursor:
        return AlarmMemory()
    try:
        return AlarmMemory.from_json(cursor)
    except AlarmMemoryError as error:
        _log.warning("what was told is not known any more", error=str(error))
        return AlarmMemory()


def _tell(memory: AlarmMemory, notices: Sequence[Notice], sink: AlertSink) -> dg.SensorResult:
    """Send what is due; what was not taken stays due, and keeps nothing else from being sent.

    Raises:
        AlertNotSent: Nothing was taken. The tick fails, and its cursor stays what it was.
    """
    sent: list[Notice] = []
    refused: AlertNotSent | None = None
    until = time.monotonic() + SENDING_SECONDS
    for notice in notices:
        if (sent or refused) and time.monotonic() > until:
            break
        try:
            sink.send(notice.alert)
        except AlertNotSent as error:
            _log.warning(str(error))
            refused = error
            continue
        _log_ranges(notice)
        memory = memory.sent(notice)
        sent.append(notice)
    if refused is not None and not sent:
        raise refused
    text = f"Alerts sent: {len(sent)} of {len(notices)}." if notices else "Nothing to tell."
    return dg.SensorResult(skip_reason=text, cursor=memory.to_json())


def _log_ranges(notice: Notice) -> None:
    """The alert names so many ranges as a message holds; the log has all."""
    ranges = [str(each) for ranges in notice.told.values() for each in ranges]
    if ranges:
        _log.info("ranges of an alert", title=notice.alert.title, ranges=ranges)
