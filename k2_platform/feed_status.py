"""Looks up each feed for ``k2 status``: how far behind, its newest trade, its days, its open alarms."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

import dagster as dg
from pyiceberg.catalog import Catalog

from k2_market.alerting.alarm_memory import AlarmMemory, AlarmMemoryError
from k2_market.errors import K2Error, LedgerError
from k2_market.feeds.feed import Feed
from k2_market.kinds.trades import TRADES
from k2_platform.dagster_storage import existing_instance
from k2_platform.day_summary import day_states
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

_ALARM_SENSOR = "ingest_alarm_sensor"


@dataclass(frozen=True)
class FeedStatus:
    """Describes how a feed stands.

    Attributes:
        feed: Its name.
        behind: Messages that the topic holds and the ledger lacks; None where Kafka or the ledger can't be read.
        newest: Exchange time of the topic's newest record, UTC; None likewise, or where there is none.
        days: Trading days that have rows.
        failed_days: Those of them with checks that did not pass.
        days_to_build: Those whose rows are newer than their bars.
        outdated_days: Those that were built under other rules than the feed's file has.
        alerts: Titles of its open alerts.
        error: Why something can't be read; empty where all can.
    """

    feed: str
    behind: int | None = None
    newest: datetime | None = None
    days: int = 0
    failed_days: int = 0
    days_to_build: int = 0
    outdated_days: int = 0
    alerts: tuple[str, ...] = ()
    error: str = ""


def feed_statuses(
    settings: Settings, feeds: Iterable[Feed], *, kafka_answers: bool
) -> tuple[list[FeedStatus], tuple[str, ...]]:
    """Look up how feeds stand, and which open alerts concern no single feed; nothing is written.

    Args:
        settings: Where the tables, Kafka and Dagster's records are.
        feeds: Those to look at.
        kafka_answers: Whether Kafka is asked at all.
    """
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    topics = KafkaTopics(settings.bootstrap_servers)
    silent = "" if kafka_answers else "Kafka does not run"
    found = []
    with existing_instance(settings) as instance:
        alerts = _open_alerts(instance)
        for feed in feeds:
            status = _with_days(FeedStatus(feed.name), feed, catalog, instance)
            try:
                status = replace(status, error=silent) if silent else _with_topic(status, feed, topics, catalog)
            except KafkaUnavailable as error:
                silent = str(error)  # which holds for the other feeds too: each would be waited for
                status = replace(status, error=silent)
            own = tuple(title for feed_name, title in alerts if feed_name == feed.name)
            found.append(replace(status, alerts=own))
    known = {status.feed for status in found}
    return found, tuple(title for feed_name, title in alerts if feed_name not in known)


def _with_days(status: FeedStatus, feed: Feed, catalog: Catalog, instance: dg.DagsterInstance | None) -> FeedStatus:
    try:
        states = day_states(catalog, feed, instance)
    except K2Error as error:
        return replace(status, error=str(error))
    return replace(
        status,
        days=len(states.days),
        failed_days=len(states.failed),
        days_to_build=len(states.stale),
        outdated_days=len(states.outdated),
    )


def _with_topic(status: FeedStatus, feed: Feed, topics: KafkaTopics, catalog: Catalog) -> FeedStatus:
    topic = topics.state(feed.topics.trades)
    if topic is None:
        return replace(status, behind=0)
    newest = topics.newest_record(topic)
    try:
        covered = RawTable(catalog, feed.name, TRADES).ledger().covered
    except LedgerError as error:
        return replace(status, newest=newest, error=str(error))
    return replace(status, newest=newest, behind=len(topic.readable - covered))


def _open_alerts(instance: dg.DagsterInstance | None) -> Sequence[tuple[str, str]]:
    """List feed and title of each alarm that was sent and still stands; the feed is empty where there is none."""
    for state in () if instance is None else instance.all_instigator_state():
        if state.instigator_name == _ALARM_SENSOR:
            with suppress(AlarmMemoryError):
                memory = AlarmMemory.from_json(getattr(state.instigator_data, "cursor", None) or "")
                told = sorted(key for key, standing in memory.standing.items() if standing.told is not None)
                return [(key.subject.partition("/")[0], f"{key.subject}: {key.kind}") for key in told]
    return []
