"""What a real broker or table lost or holds back reaches a person once, by a webhook, with its exact ranges."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from catching_up import reaches_no_lag
from checker import NO_GAPS, assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from own_feeds import OwnFeed, own_feed
from recorded_producer import Acked
from topic_changes import TransactionalProducer, delete_records, recreate
from webhook import Webhook, running_webhook

from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import RangeSet
from k2_platform.catch_up import local_instance
from k2_platform.definitions import clients
from k2_resources.alerts.sink import AlertSinkResource
from k2_resources.iceberg.catalog import open_catalog
from k2_sensors.ingest_alarms import build_ingest_alarm_sensor

LOOK = timedelta(seconds=30)


@dataclass
class Watched:
    """A feed and the sensor that looks at it every half minute of a time of its own."""

    own: OwnFeed
    instance: dg.DagsterInstance
    webhook: Webhook
    now: datetime
    cursor: str | None = None
    acked: list[Acked] = field(default_factory=list)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += LOOK
            sensor = build_ingest_alarm_sensor([self.own.feed], [TRADES], lambda: self.now)
            sink = AlertSinkResource(webhook=self.webhook.url)
            resources = {**clients(self.own.settings), "alert_sink": sink}
            context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources)
            self.cursor = sensor.evaluate_tick(context).cursor

    def send(self, count: int) -> RangeSet:
        """So many messages more; where in the topic they are."""
        before = self.own.topic().readable
        producer = self.own.producer()
        producer.send(self.own.trades(count))
        producer.flush()
        self.acked += producer.acked
        return self.own.topic().readable - before

    def forget(self, gone: RangeSet) -> None:
        """Messages that nobody can give any more, and no ledger tells of."""
        self.acked = [each for each in self.acked if not gone.contains(each.topic_id, each.partition, each.offset)]

    def ends_well(self, tally: FaultTally, fault: str, gaps: RangeSet = NO_GAPS) -> None:
        assert_nothing_lost_or_doubled(self.own.settings, self.own.feed.name, self.acked, tally, gaps)
        tally.injected(fault)

    def has_told(self, headline: str, ranges: RangeSet) -> bool:
        """Whether the only alert so far has a headline and names every range."""
        told = str(self.webhook.taken)
        assert self.webhook.titles == [f"{self.own.feed.name}/raw_trades: {headline}"]
        return all(str(each) in told for each in ranges)


@pytest.fixture
def watched(tmp_path: Path, kafka, registry) -> Iterator[Watched]:
    """A feed with 200 messages ingested, and a first look at it."""
    own = own_feed(tmp_path, kafka.bootstrap_servers, registry.url, partitions=2)
    with local_instance(own.settings) as instance, running_webhook() as webhook:
        made = Watched(own, instance, webhook, datetime.now(UTC))
        made.send(200)
        reaches_no_lag(own)
        made.look()
        assert webhook.posts == []
        yield made


def test_offsets_that_retention_took_unread(watched: Watched, tally: FaultTally) -> None:
    unread = watched.send(100)
    delete_records(watched.own, {each.partition: each.end for each in unread})
    watched.look(3)
    assert watched.has_told("offsets lost to retention", unread)
    reaches_no_lag(watched.own)
    assert watched.own.ledger().lost == unread
    watched.look(20)
    assert watched.has_told("offsets lost to retention", unread)
    watched.ends_well(tally, "B7", unread)


def test_a_topic_made_anew_with_messages_in_it_that_nobody_had_read(watched: Watched, tally: FaultTally) -> None:
    old = watched.own.topic().topic_id
    unread = watched.send(100)
    watched.look()
    recreate(watched.own)
    watched.look(3)
    assert watched.has_told("topic recreated", unread)
    assert f"{old} and is {watched.own.topic().topic_id}" in str(watched.webhook.taken)
    watched.send(100)
    reaches_no_lag(watched.own)
    watched.look(20)
    assert watched.has_told("topic recreated", unread)
    watched.forget(unread)
    watched.ends_well(tally, "B8")


def test_a_transaction_left_open_until_it_ends(watched: Watched, tally: FaultTally) -> None:
    producer = TransactionalProducer(watched.own.settings.bootstrap_servers, watched.own.feed.topics.trades)
    producer.begin(watched.own.trades(100, seed=2))
    watched.look(20)
    stable = {each.partition: each.stable_end for each in watched.own.topic().partitions}
    assert watched.has_told("open transaction holds up readers", RangeSet())
    for partition, offset in stable.items():
        assert f"Partition {partition} " in str(watched.webhook.taken)
        assert f"transaction at offset {offset}" in str(watched.webhook.taken)
    producer.commit()
    reaches_no_lag(watched.own)
    watched.look(20)
    assert len(watched.webhook.posts) == 1
    watched.acked += producer.acked
    watched.ends_well(tally, "B6")


def test_a_table_rolled_back_behind_its_ledger(watched: Watched, tally: FaultTally) -> None:
    settings = watched.own.settings
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    name = (watched.own.feed.name, "raw_trades")
    before = catalog.load_table(name).current_snapshot()
    gone = watched.send(100)
    reaches_no_lag(watched.own)
    after = catalog.load_table(name).current_snapshot()
    assert before is not None
    assert after is not None
    catalog.load_table(name).manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    watched.look(20)
    assert watched.has_told("table rolled back", gone)
    catalog.load_table(name).manage_snapshots().set_current_snapshot(after.snapshot_id).commit()
    watched.look(20)
    assert len(watched.webhook.posts) == 1
    watched.ends_well(tally, "C10")
