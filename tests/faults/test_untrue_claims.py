"""A run that is told what is not so of its topic records nothing of it; a halt recorded wrongly can be ended."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from catching_up import carried_out, ingest, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_brokers import FaultBroker, fault_broker
from fault_tally import FaultTally
from own_feeds import OwnFeed, own_feed
from recorded_producer import RecordedProducer
from topic_changes import delete_records, recreate
from trade_batches import split

from k2_assets.names import ingest_op_name
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_market.ledger.ledger import Ledger, spans_to_json
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_platform.catch_up import local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable

pytestmark = pytest.mark.slow

TRADES = 300


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts) -> Iterator[FaultBroker]:
    """A broker whose data may be lost."""
    with fault_broker(tmp_path_factory.mktemp("cut"), java_artifacts) as started:
        yield started


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    """A feed with two partitions, all of whose messages are in."""
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url, partitions=2)


@pytest.fixture
def producer(own: OwnFeed) -> RecordedProducer:
    producer = own.producer()
    producer.send(own.trades(TRADES))
    producer.flush()
    reaches_no_lag(own)
    return producer


def span(own: OwnFeed, partition: int, start: int, end: int) -> RangeSet:
    return RangeSet.of([OffsetRange(own.topic().topic_id, partition, start, end)])


def told(own: OwnFeed, topic_id: str | None = None, **claims: Any) -> list[str]:
    """What goes wrong in a run that someone starts by hand and tells this."""
    config = {"topic_id": own.topic().topic_id if topic_id is None else topic_id, **claims}
    day = TradingCalendar.of(own.feed).session(own.feed.start_date)
    assert day
    request = dg.RunRequest(
        run_config={"ops": {ingest_op_name(own.feed.name, TRADES_KIND): {"config": config}}},
        partition_key=own.feed.start_date.isoformat(),
    )
    with local_instance(own.settings) as instance:
        return carried_out(own, request, instance)


def as_an_earlier_version_recorded_it(own: OwnFeed, **claims: RangeSet) -> None:
    """Write claims into the ledger, without looking whether they are so."""
    catalog = open_catalog(own.settings.iceberg_catalog_uri, own.settings.iceberg_warehouse)
    table = RawTable(catalog, own.feed.name, TRADES_KIND)
    names = {own.topic().topic_id: own.feed.topics.trades}
    table.commit(Delivery(table.schema.empty_table(), RangeSet(), names, "by hand", **claims))


def k2(own: OwnFeed, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("k2")), *arguments, "--feed", own.feed.name]
    environment = os.environ | own.settings.environment_variables()
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def ends_well(own: OwnFeed, producer: RecordedProducer, tally: FaultTally, fault: str, seed: int = 9) -> None:
    """More messages come in as ever, and every message is one row."""
    producer.send(own.trades(TRADES, seed=seed))
    producer.flush()
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected(fault)


CLAIMS = [
    ({"truncated": {"0": [[0, 1]]}}, "truncated: partition 0 offsets [0, 1): its log reaches from 0 to"),
    ({"truncated": {"0": [[0, 1_000_000]]}}, "truncated: partition 0 offsets [0, "),
    ({"truncated": {"0": [[900_000, 900_001]]}}, "truncated: partition 0 offsets [900000, 900001): they are not in"),
    ({"lost": {"1": [[0, 1]]}}, "lost: partition 1 offsets [0, 1): its log begins at 0"),
    ({"lost": {"1": [[900_000, 900_001]]}}, "lost: partition 1 offsets [900000, 900001)"),
    ({"ranges": {"0": [[0, 900_000]]}}, "ranges: partition 0 offsets [0, 900000): its log ends at"),
    ({"ranges": {"7": [[0, 1]]}}, "ranges: partition 7 offsets [0, 1): the topic has partitions 0 to 1"),
    ({"ranges": {"0": [[5, 1]]}}, "ranges: found partition '0', offsets [5, 1]"),
    ({"lost": {"zero": [[0, 1]]}}, "lost: found partition 'zero'"),
    ({"topic_id": "", "lost": {"0": [[0, 1]]}}, "topic_id is empty"),
    ({"ranges": {"0": [[0, 5]]}, "handling": "keep bytes"}, "attempts at them are known to have failed"),
    ({"ranges": {"0": [[0, 5]]}, "handling": "skip"}, "which call for 'decode'"),
    ({"ranges": {"0": [[0, 5]]}, "handling": "drop"}, "handling: found 'drop'"),
    ({"topic_id": "", "handling": "skip"}, "handling 'skip': found no ranges"),
    ({"topic_id": "another", "truncated": {"0": [[0, 1]]}}, "offsets of topic another are to be read"),
]


def test_a_run_that_is_told_what_is_not_so_fails_by_name_and_records_nothing(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally
) -> None:
    before = own.ledger()
    for claims, said in CLAIMS:
        (error,) = told(own, **claims)
        assert said in error, error
        assert own.ledger() == before, claims
    ends_well(own, producer, tally, "W2")
    assert own.ledger().lost == own.ledger().truncated == own.ledger().set_aside == RangeSet()


def test_messages_that_decode_can_not_be_set_aside_by_a_run_that_is_told_to_and_come_in(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally
) -> None:
    producer.send(own.trades(TRADES, seed=6))
    producer.flush()
    pending = own.topic().readable - own.ledger().covered
    for handling in ("keep bytes", "skip") * 6:
        (error,) = told(own, ranges=spans_to_json(pending), handling=handling)
        assert f"handling '{handling}' of " in error
    assert own.ledger().settled.isdisjoint(pending)
    ends_well(own, producer, tally, "W2")
    assert own.ledger().set_aside == RangeSet()
    assert own.ledger().dead_letters == 0


def test_what_is_so_may_be_told_by_hand(own: OwnFeed, producer: RecordedProducer, tally: FaultTally) -> None:
    producer.send(own.trades(TRADES, seed=2))
    producer.flush()
    pending = own.topic().readable - own.ledger().covered
    firsts = {each.partition: each.start + 5 for each in pending}
    delete_records(own, firsts)
    gone = pending - own.topic().readable
    assert told(own, ranges=spans_to_json(pending - gone), lost=spans_to_json(gone)) == []
    assert own.ledger().lost == gone
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, gone)


class TestAHaltThatWasRecordedWrongly:
    def test_is_shown_and_ended_by_repair_and_ingestion_goes_on(
        self, own: OwnFeed, producer: RecordedProducer, tally: FaultTally
    ) -> None:
        wrong = span(own, 0, 0, 1) | span(own, 1, 3, 20)
        as_an_earlier_version_recorded_it(own, truncated=wrong)
        producer.send(own.trades(20, seed=3))
        producer.flush()
        waiting = ingest(own).waiting
        assert waiting.startswith("halted: ")
        assert "--unhalt" in waiting
        (refused,) = told(own, ranges=spans_to_json(own.topic().readable - own.ledger().covered))
        assert "halted: the log of" in refused

        before = own.ledger()
        shown = k2(own, "repair", "--unhalt", "--dry-run")
        assert (shown.returncode, "would end" in shown.stdout, own.ledger()) == (0, True, before), shown
        assert all(str(each) in shown.stdout for each in wrong)
        done = k2(own, "repair", "--unhalt", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["taken_back"] == [str(each) for each in wrong]
        after = own.ledger()
        assert after.truncated == RangeSet()
        assert (after.covered, after.messages, after.lost) == (before.covered, before.messages, before.lost)
        assert "not halted" in k2(own, "repair", "--unhalt").stdout
        assert own.ledger() == after
        ends_well(own, producer, tally, "W3")

    def test_a_loss_that_was_recorded_wrongly_is_taken_back_too(
        self, own: OwnFeed, producer: RecordedProducer, tally: FaultTally
    ) -> None:
        producer.send(own.trades(TRADES, seed=4))
        producer.flush()
        unread = own.topic().readable - own.ledger().covered
        never = span(own, 0, 900_000, 900_002)
        as_an_earlier_version_recorded_it(own, lost=unread | never)
        assert own.ledger().lost == unread | never
        done = json.loads(k2(own, "repair", "--unhalt", "--json").stdout)
        assert {each["in_log"] for each in done["recorded"]} == {"retained", "not_yet"}
        assert own.ledger().lost == RangeSet()
        ends_well(own, producer, tally, "W3")

    def test_a_correction_that_is_forestalled_is_made_on_the_table_as_it_is_then(
        self, own: OwnFeed, producer: RecordedProducer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from k2_platform.repairing import Repairs
        from k2_resources.runtime import crash_points

        as_an_earlier_version_recorded_it(own, truncated=span(own, 0, 0, 1))
        forestalls = iter([True])

        def first(point: str) -> None:
            if point == "before_cas" and next(forestalls, False):
                as_an_earlier_version_recorded_it(own, truncated=span(own, 1, 0, 1))

        monkeypatch.setattr(crash_points, "reached", first)
        found = Repairs(own.settings, own.feed, TRADES_KIND, dry_run=False).unhalt()
        assert found.truncated == span(own, 0, 0, 1) | span(own, 1, 0, 1)
        assert own.ledger().truncated == RangeSet()


@pytest.mark.slow
class TestALogThatWasCut:
    @pytest.fixture(scope="class")
    def broker(self, tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts) -> Iterator[FaultBroker]:
        with fault_broker(tmp_path_factory.mktemp("cut"), java_artifacts) as started:
            yield started

    @pytest.fixture
    def own(self, tmp_path: Path, broker: FaultBroker, registry) -> OwnFeed:
        return own_feed(tmp_path, broker.direct, registry.url, partitions=2)

    def cut(self, own: OwnFeed, broker: FaultBroker) -> Ledger:
        """Lose all of the topic's data, under an id that stays; the ledger after that was seen."""
        broker.stop()
        broker.lose(own.feed.topics.trades)
        broker.start()
        assert ingest(own).waiting.startswith("halted: ")
        return own.ledger()

    def test_stays_halted_while_it_ends_before_and_when_it_has_something_else_there(
        self, own: OwnFeed, broker: FaultBroker, producer: RecordedProducer, tally: FaultTally
    ) -> None:
        halted = self.cut(own, broker)
        assert halted.truncated == halted.covered
        ends_before = k2(own, "repair", "--unhalt")
        assert ends_before.returncode == 1
        assert "it ends before them" in ends_before.stderr
        other = own.producer()
        other.send(own.trades(2 * TRADES, seed=77))
        other.flush()
        something_else = k2(own, "repair", "--unhalt")
        assert something_else.returncode == 1
        assert "the log has other messages" in something_else.stderr
        assert all(str(each) in something_else.stdout for each in halted.truncated)
        assert own.ledger() == halted
        recreate(own)
        again = own.producer()
        again.send(own.trades(TRADES, seed=5))
        again.flush()
        reaches_no_lag(own)
        assert_nothing_lost_or_doubled(own.settings, own.feed.name, [*producer.acked, *again.acked], tally)
        tally.injected("W3")

    def test_goes_on_where_the_same_was_sent_again_and_takes_it_once(
        self, own: OwnFeed, broker: FaultBroker, tally: FaultTally
    ) -> None:
        first, more = split(own.trades(2 * TRADES), TRADES)
        producer = own.producer()
        for partition in (0, 1):
            producer.send(first, partition=partition)
        producer.flush()
        reaches_no_lag(own)
        self.cut(own, broker)
        again = own.producer()
        for partition in (0, 1):
            again.send(first, partition=partition)
        again.flush()
        assert k2(own, "repair", "--unhalt").returncode == 0
        assert own.ledger().truncated == RangeSet()
        again.send(more)
        again.flush()
        reaches_no_lag(own)
        assert_nothing_lost_or_doubled(own.settings, own.feed.name, again.acked, tally)
        tally.injected("W3")

    def test_is_recorded_though_it_has_grown_over_its_old_end_before_the_run_came_to_it(
        self, own: OwnFeed, broker: FaultBroker, producer: RecordedProducer
    ) -> None:
        """The plan was made while the log was short; the run finds other messages where the ledger's were."""
        covered = own.ledger().covered
        broker.stop()
        broker.lose(own.feed.topics.trades)
        broker.start()
        other = own.producer()
        other.send(own.trades(2 * TRADES, seed=78))
        other.flush()
        assert covered.issubset(own.topic().readable)
        assert told(own, truncated=spans_to_json(covered)) == []
        assert own.ledger().truncated == covered
