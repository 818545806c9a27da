"""Defines the ingest alarm sensor: checks what could stand against ingestion, and alerts a person once.

It waits for every service for a bounded time, so that a silent one is alerted of and does not silence the sensor.
What was told stands in its cursor, which never moves past an alert that was not taken.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from k2_assets.names import family_name
from k2_assets.records.run_records import carried, failed_ingests, ingests_in_flight
from k2_assets.topic import topic_observation
from k2_market.alerting.alarm_facts import AlarmFacts, FailingSensor, FeedFacts, NoAnswer, Untrusted
from k2_market.alerting.alarm_memory import AlarmMemory, AlarmMemoryError, Notice
from k2_market.alerting.ingest_alarms import FAILED_TICKS
from k2_market.alerting.silence import Expectation, expectation
from k2_market.errors import CalendarError, LedgerError
from k2_market.feeds.feed import Feed, RefusedFile
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.shipped import kinds_of
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.topic_state import TopicState
from k2_resources.alerts.sink import AlertNotSent, AlertSink, AlertSinkResource
from k2_resources.dagster.resources import IcebergCatalogResource, KafkaResource, SchemaRegistryResource
from k2_resources.exporter.disk_use import disks_of
from k2_resources.files.feed_files import changes_between, contents_of
from k2_resources.kafka.schema_registry import SchemaRegistry, SchemaUnavailable
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.view import TableRolledBack
from k2_resources.runtime.bounded_calls import BoundedClient

INTERVAL_SECONDS = 30

# Dagster ends a tick that takes a minute: the three, and one last post with its retries, stay below that together.
CATALOG_SECONDS = 10.0
KAFKA_SECONDS = 15.0
SENDING_SECONDS = 10.0

OBSERVED_EVERY = timedelta(minutes=10)
"""Time between two observations of a topic: they stay in Dagster's records for ever, 150 a day at the most."""

_SENSORS_OF_FEED = (
    "kafka_sensor",
    "stale_day_sensor",
    "unchecked_day_sensor",
    "closed_day_sensor",
    "maintenance_sensor",
    "awaited_day_sensor",
)
_SENSORS_OF_ALL = ("run_watch_sensor",)
_SCHEDULES_OF_FEED = ("bars_today",)
_ENDED_TICKS = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
_ANY_SCHEMA_ID = 1
_MAX_REASON = 500

_log = get_logger("alarms")


def build_ingest_alarm_sensor(
    feeds: Iterable[Feed],
    kinds: Sequence[RawKind],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    refused: Sequence[RefusedFile] = (),
    feed_directories: Sequence[Path] = (),
    data_paths: Sequence[Path] = (),
) -> dg.SensorDefinition:
    """Make the one sensor for the ingestion of all feeds, so that an absent Kafka is one alert, not one a feed.

    Args:
        feeds: Those that are looked at.
        kinds: Which of their topics and raw tables.
        clock: Gives the time.
        default_status: Whether the sensor runs by itself.
        refused: Feed files that were refused.
        feed_directories: Where the feeds' files lie; they are held against what they are now.
        data_paths: Directories whose disks are watched.
    """
    watched = [FeedKind(feed, kind) for feed in feeds for kind in kinds_of(feed, kinds)]
    clients = IngestClients()
    at_start = contents_of(feed_directories)
    observed = ObservedTopics()

    @dg.sensor(
        name="ingest_alarm_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status,
        description="Looks at every feed's topic, ledger, runs and sensors, and alerts people of what is lost, what "
        "stands still and what does not answer. Observes the topics' ends and lag.",
    )
    def ingest_alarm_sensor(
        context: dg.SensorEvaluationContext,
        kafka: KafkaResource,
        iceberg: IcebergCatalogResource,
        registry: SchemaRegistryResource,
        alert_sink: AlertSinkResource,
    ) -> dg.SensorResult:
        facts = replace(
            look(watched, kafka, iceberg, registry, context.instance, clock(), clients),
            refused=tuple(refused),
            changed=changes_between(at_start, contents_of(feed_directories)),
            disks=disks_of(data_paths),
        )
        memory, notices = _memory(context.cursor).after(facts)
        return _tell(
            memory, notices, alert_sink.sink(), observed.news(facts, {each.family: each.kind for each in watched})
        )

    return ingest_alarm_sensor


@dataclass(frozen=True)
class IngestClients:
    """The services that ingestion depends on, and how long each is waited for."""

    catalog: BoundedClient = field(default_factory=lambda: BoundedClient("the catalog", CATALOG_SECONDS))
    kafka: BoundedClient = field(default_factory=lambda: BoundedClient("Kafka", KAFKA_SECONDS))
    registry: BoundedClient = field(default_factory=lambda: BoundedClient("the schema registry", KAFKA_SECONDS))


@dataclass
class ObservedTopics:
    """Remembers which topics were observed when and how, so that an observation is made of what changed, not often."""

    _seen: dict[str, tuple[datetime, TopicState, int]] = field(default_factory=dict)

    def news(self, facts: AlarmFacts, kinds: Mapping[str, RawKind]) -> list[dg.AssetObservation]:
        """Observe the topics whose end or lag is another than when they were last observed, some minutes ago.

        Args:
            facts: What was found of each topic.
            kinds: For each family the kind that it is of.
        """
        found = []
        for feed in facts.feeds:
            topic, ledger = feed.topic, feed.ledger
            if not isinstance(topic, TopicState) or not isinstance(ledger, Ledger):
                continue
            lag = len(topic.readable - ledger.settled)
            known = self._seen.get(feed.family)
            if known is None or (facts.now - known[0] >= OBSERVED_EVERY and known[1:] != (topic, lag)):
                self._seen[feed.family] = (facts.now, topic, lag)
                found.append(topic_observation(feed.feed, kinds[feed.family], topic, ledger.settled))
        return found


@dataclass(frozen=True)
class FeedKind:
    """Names one topic of a feed and its raw table: those of a kind."""

    feed: Feed
    kind: RawKind

    @property
    def family(self) -> str:
        """Name its family, as its sensors' names begin."""
        return family_name(self.feed.name, self.kind)

    @property
    def topic(self) -> str:
        """Name the topic."""
        return self.kind.topic(self.feed)


@dataclass(frozen=True)
class _Log:
    """A feed's topic as it is now, its newest record's timestamp, and the topics that the feed had before."""

    topic: TopicState | None
    newest: datetime | None
    former: tuple[TopicState, ...]


@dataclass(frozen=True)
class _Rows:
    """A raw table's ledger and the days that it has rows of."""

    ledger: Ledger
    days: frozenset[date]


def look(
    watched: Sequence[FeedKind],
    kafka: KafkaResource,
    iceberg: IcebergCatalogResource,
    registry: SchemaRegistryResource,
    instance: dg.DagsterInstance,
    now: datetime,
    clients: IngestClients,
) -> AlarmFacts:
    """Find what there is to know of the ingestion of some topics; takes no longer than its clients are given."""
    # Ledgers before topics: a run that commits in between must not make a ledger look ahead of its topic.
    rows = clients.catalog.ask({each.family: _rows_of(each, iceberg) for each in watched})()
    client = kafka.topics()
    logs = clients.kafka.ask({each.family: _log_of(each, client, rows[each.family]) for each in watched})
    schemas = clients.registry.ask({"": lambda: _answers(registry.registry())})
    found = [
        _with_runs(each, _facts(each, log, rows[each.family], now), instance, now)
        for each, log in zip(watched, logs().values(), strict=True)
    ]
    answer = schemas()[""]
    return AlarmFacts(
        feeds=tuple(found),
        registry=answer if isinstance(answer, NoAnswer) else None,
        failing=tuple(_failing_ticks(watched, instance)),
        now=now,
        closed_pools=tuple(pool.name for pool in instance.event_log_storage.get_pool_limits() if pool.limit == 0),
    )


def _facts(of: FeedKind, log: _Log | NoAnswer, rows: _Rows | Untrusted | NoAnswer, now: datetime) -> FeedFacts:
    topic = log if isinstance(log, NoAnswer) else log.topic
    ledger = rows.ledger if isinstance(rows, _Rows) else rows
    facts = FeedFacts(
        of.feed.name,
        of.family,
        f"{of.feed.name}/{of.kind.raw_table}",
        of.topic,
        topic,
        ledger,
        expected=_expectation(of.feed, now),
    )
    if isinstance(log, _Log):
        facts = replace(facts, newest=log.newest, former=log.former)
    return replace(facts, days=rows.days) if isinstance(rows, _Rows) else facts


def _expectation(feed: Feed, now: datetime) -> Expectation | None:
    try:
        return expectation(feed, now)
    except CalendarError as error:  # the calendar ends before the present: the feed's other sensors fail of it
        _log.warning("silence can't be judged", feed=feed.name, reason=str(error))
        return None


def _answers(registry: SchemaRegistry) -> bool:
    with suppress(SchemaUnavailable):  # the registry answers, if not for the id that it is asked about here
        registry.writer_schemas([_ANY_SCHEMA_ID])
    return True


def _log_of(of: FeedKind, topics: KafkaTopics, rows: _Rows | Untrusted | NoAnswer) -> Callable[[], _Log]:
    def log() -> _Log:
        topic = topics.state(of.topic)
        newest = None if topic is None else topics.newest_record(topic)
        return _Log(topic, newest, tuple(_former(of, topics, rows)))

    return log


def _former(of: FeedKind, topics: KafkaTopics, rows: _Rows | Untrusted | NoAnswer) -> Iterator[TopicState]:
    """Find the topics of other names that fed the table, as far as they still exist with the same id."""
    known = rows.ledger.topic_names if isinstance(rows, _Rows) else {}
    for name in sorted({name for name in known.values() if name != of.topic}):
        topic = topics.state(name)
        if topic is not None and topic.topic_id in known:
            yield topic


def _rows_of(of: FeedKind, iceberg: IcebergCatalogResource) -> Callable[[], _Rows | Untrusted]:
    def rows() -> _Rows | Untrusted:
        try:
            view = iceberg.raw_table(of.feed.name, of.kind).view()
            return _Rows(view.ledger, frozenset(view.day_versions))
        except TableRolledBack as error:
            return Untrusted(str(error), rolled_back=True, ranges=error.ranges)
        except LedgerError as error:
            return Untrusted(str(error))

    return rows


def _with_runs(of: FeedKind, facts: FeedFacts, instance: dg.DagsterInstance, now: datetime) -> FeedFacts:
    """Return the facts with what runs carry, which matters only where messages wait."""
    topic, ledger = facts.topic, facts.ledger
    if not isinstance(topic, TopicState) or not isinstance(ledger, Ledger) or not topic.readable - ledger.settled:
        return facts
    feed, kind = of.feed, of.kind
    in_flight = tuple(carried(run, feed, kind) for run in ingests_in_flight(instance, feed, kind))
    return replace(facts, in_flight=in_flight, failed=failed_ingests(instance, feed, kind, now))


def _failing_ticks(watched: Sequence[FeedKind], instance: dg.DagsterInstance) -> Iterator[FailingSensor]:
    """Find our sensors and schedules whose last tick failed; those that send alerts fail when this one does."""
    automations: dict[str, FeedKind | None] = dict.fromkeys(_SENSORS_OF_ALL)
    automations |= {
        f"{each.family}_{name}": each for each in watched for name in (*_SENSORS_OF_FEED, *_SCHEDULES_OF_FEED)
    }
    for state in instance.all_instigator_state():
        name = state.instigator_name
        if name in automations:
            ticks = instance.get_ticks(
                state.instigator_origin_id, state.selector_id, limit=FAILED_TICKS, statuses=_ENDED_TICKS
            )
            failed = list(takewhile(lambda tick: tick.status is TickStatus.FAILURE, ticks))
            if failed:
                times = tuple(datetime.fromtimestamp(tick.timestamp, UTC) for tick in failed)
                of = automations[name]
                yield FailingSensor(
                    name,
                    None if of is None else of.feed.name,
                    None if of is None else of.family,
                    times,
                    _error_of(failed[0]),
                )


def _error_of(tick: InstigatorTick) -> str:
    error = tick.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "no error was recorded" if error is None else error.message.strip()[:_MAX_REASON]


def _memory(cursor: str | None) -> AlarmMemory:
    """Tell what the last tick left; an empty memory, which tells anew all that stands, where that can't be read."""
    if not cursor:
        return AlarmMemory()
    try:
        return AlarmMemory.from_json(cursor)
    except AlarmMemoryError as error:
        _log.warning("what was told is not known any more", error=str(error))
        return AlarmMemory()


def _tell(
    memory: AlarmMemory, notices: Sequence[Notice], sink: AlertSink, observations: Sequence[dg.AssetObservation] = ()
) -> dg.SensorResult:
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
    return dg.SensorResult(skip_reason=text, cursor=memory.to_json(), asset_events=[*observations])


def _log_ranges(notice: Notice) -> None:
    """Log all ranges, since the alert names only as many as a message holds."""
    ranges = [str(each) for ranges in notice.told.values() for each in ranges]
    if ranges:
        _log.info("ranges of an alert", title=notice.alert.title, ranges=ranges)
