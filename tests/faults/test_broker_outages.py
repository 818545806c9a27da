"""The broker is paused, killed, robbed or badly connected while a run reads: a clear error or none, and nothing lost.

What K2 reads goes through a proxy; what the tests send does not.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import dagster as dg
import pytest
from catching_up import carried_out, ingest, planned, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from fault_brokers import FaultBroker, fault_broker
from fault_tally import FaultTally
from own_feeds import OwnFeed, eventually, own_feed
from recorded_producer import RecordedProducer
from tcp_proxy import OPEN, SILENT, Passage
from topic_changes import recreate
from trade_batches import split

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.messages.outgoing import OutgoingMessages
from k2_platform.catch_up import local_instance
from k2_resources.kafka import topic_reader
from k2_resources.kafka.topics import KafkaUnavailable

pytestmark = pytest.mark.slow

TRADES = 20_000
ABOUT_HALF = 400_000
"""Bytes of the broker's answers after which a run is in the midst of reading ``TRADES``, compressed as they are."""
UNHURRIED = Passage(bytes_per_second=400_000, slice_bytes=4_096)
"""Slow enough that something can happen while a run reads."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts) -> Iterator[FaultBroker]:
    settings = {"log_cleaner_backoff_ms": "200"}
    with fault_broker(tmp_path_factory.mktemp("faults"), java_artifacts, **settings) as started:
        yield started


@pytest.fixture
def own(tmp_path: Path, broker: FaultBroker, registry) -> Iterator[OwnFeed]:
    yield own_feed(tmp_path, broker.proxied, registry.url, create_at=broker.direct)
    broker.proxy.set(OPEN)
    broker.resume()


@pytest.fixture
def producer(own: OwnFeed, broker: FaultBroker) -> RecordedProducer:
    return own.producer(broker.direct)


def send(producer: RecordedProducer, messages: OutgoingMessages) -> None:
    producer.send(messages)
    producer.flush(120)


def while_reading(broker: FaultBroker, own: OwnFeed, act: Callable[[], None]) -> list[str]:
    """What goes wrong in a run that something happened to while it read."""
    happened = threading.Event()

    def happen() -> None:
        happened.set()
        act()

    with local_instance(own.settings) as instance:
        request = planned(own, instance)
        assert isinstance(request, dg.RunRequest), request
        broker.proxy.set(UNHURRIED)
        broker.proxy.when_answered(ABOUT_HALF, happen)
        errors = carried_out(own, request, instance)
    broker.proxy.set(OPEN)
    assert happened.is_set(), "the run was over before it happened"
    return errors


def test_a_broker_that_is_paused_while_a_run_reads_delays_it_and_no_more(
    own: OwnFeed, broker: FaultBroker, producer: RecordedProducer, tally: FaultTally
) -> None:
    send(producer, own.trades(TRADES))

    def pause() -> None:
        broker.pause()
        threading.Timer(15, broker.resume).start()

    assert while_reading(broker, own, pause) == []
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B1")


def test_a_broker_that_stays_paused_fails_the_run_in_time_and_is_read_when_it_goes_on(
    own: OwnFeed,
    broker: FaultBroker,
    producer: RecordedProducer,
    tally: FaultTally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic_reader, "STALL_SECONDS", 5.0)
    send(producer, own.trades(TRADES))
    (error,) = while_reading(broker, own, broker.pause)
    assert "nothing for 5 s" in error
    broker.resume()
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B1")


def test_a_broker_that_is_killed_and_started_again_while_a_run_reads_and_a_producer_writes_loses_nothing(
    own: OwnFeed, broker: FaultBroker, producer: RecordedProducer, tally: FaultTally
) -> None:
    first, *rest = split(own.trades(2 * TRADES), TRADES, *[500] * 39)
    send(producer, first)
    sending = threading.Thread(target=producer.send_evenly, args=(rest, 2_000))

    def kill_and_start() -> None:
        sending.start()
        broker.terminate()
        broker.kill()
        broker.start()

    while_reading(broker, own, kill_and_start)
    sending.join()
    producer.flush(120)
    assert producer.refused == []
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B2")


def test_connections_reset_again_and_again_in_the_midst_of_answers_delay_a_run_and_no_more(
    own: OwnFeed, broker: FaultBroker, producer: RecordedProducer, tally: FaultTally, seeded: Random
) -> None:
    send(producer, own.trades(TRADES))
    broker.proxy.set(UNHURRIED)
    for _ in range(6):
        broker.proxy.when_answered(seeded.randrange(1_000, 1_000_000), broker.proxy.reset_all)
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B3 reset")


@pytest.mark.parametrize(
    ("words", "passage", "trades"),
    [
        ("sliced", Passage(slice_bytes=11), TRADES),
        ("5 KB/s", Passage(bytes_per_second=5_000), 200),
        ("60 KB/s", Passage(bytes_per_second=60_000), TRADES),
    ],
)
def test_answers_that_trickle_in_are_read(
    own: OwnFeed,
    broker: FaultBroker,
    producer: RecordedProducer,
    tally: FaultTally,
    words: str,
    passage: Passage,
    trades: int,
) -> None:
    send(producer, own.trades(trades))
    broker.proxy.set(passage)
    assert ingest(own).errors == []
    broker.proxy.set(OPEN)
    assert own.ledger().messages == trades
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected(f"B3 {words}")


def test_a_connection_that_falls_silent_ends_a_run_with_a_clear_error_and_is_used_again_when_it_speaks(
    own: OwnFeed,
    broker: FaultBroker,
    producer: RecordedProducer,
    tally: FaultTally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic_reader, "STALL_SECONDS", 5.0)
    send(producer, own.trades(TRADES))
    (error,) = while_reading(broker, own, lambda: broker.proxy.set(SILENT))
    assert f"Kafka at {broker.proxied}, topic {own.feed.topics.trades}: nothing for 5 s" in error
    broker.proxy.set(SILENT)
    with local_instance(own.settings) as instance, pytest.raises(KafkaUnavailable, match=broker.proxied):
        planned(own, instance)
    broker.proxy.set(OPEN)
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B4")


def test_messages_whose_confirmation_was_lost_on_its_way_are_sent_again_and_are_one_row(
    own: OwnFeed, broker: FaultBroker, tally: FaultTally
) -> None:
    producer = own.producer(broker.proxied)
    resets = broker.proxy.resets
    for part in split(own.trades(2_000), 500, 500, 500):
        broker.proxy.set(Passage(answer_lost=True))
        send(producer, part)
    assert broker.proxy.resets - resets == 4
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B3 answer lost")


def test_a_topic_whose_data_is_lost_halts_and_is_neither_read_again_nor_overwritten_until_it_is_made_anew(
    own: OwnFeed, broker: FaultBroker, producer: RecordedProducer, tally: FaultTally
) -> None:
    before, refilled, after = split(own.trades(2_000), 600, 1_000)
    send(producer, before)
    reaches_no_lag(own)
    covered, topic_id = own.ledger().covered, own.topic().topic_id
    broker.stop()
    broker.lose(own.feed.topics.trades)
    broker.start()
    assert own.topic().topic_id == topic_id
    assert ingest(own).waiting.startswith("halted: the log of")
    assert own.ledger().truncated == covered
    send(own.producer(broker.direct), refilled)
    assert covered.issubset(own.topic().readable)
    done = ingest(own)
    assert (done.runs, done.waiting.startswith("halted: the log of")) == (0, True)
    assert (own.ledger().covered, own.ledger().messages) == (covered, len(before))
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    recreate(own)
    again = own.producer(broker.direct)
    send(again, after)
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, [*producer.acked, *again.acked], tally)
    tally.injected("B11")


def test_of_a_compacted_topic_all_that_is_left_is_ingested(
    own: OwnFeed, broker: FaultBroker, producer: RecordedProducer, tally: FaultTally
) -> None:
    compact(own, broker)
    trades = own.trades(3_000, symbols=40)
    tombstones = OutgoingMessages(trades.keys[:50], [None] * 50, trades.timestamps_ms[-50:])
    for part in split(trades, 1_000, 1_000):
        send(producer, part)
    send(producer, tombstones)
    eventually(lambda: len(left_in(own, broker)) < len(producer.acked) - 1_000, "the broker compacts the topic")
    reaches_no_lag(own)
    rows = set(zip(*(column.to_pylist() for column in own.raw().all_offsets().columns), strict=True))
    left = left_in(own, broker)
    topic_id = own.topic().topic_id
    expected = [each for each in producer.acked if (each.partition, each.offset) in left]
    more = [each for each in producer.acked if each not in expected and (topic_id, each.partition, each.offset) in rows]
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, [*expected, *more], tally)
    assert own.ledger().covered == own.topic().readable
    assert own.ledger().dead_letters == sum(each.value is None for each in [*expected, *more]) > 0
    assert own.ledger().lost == RangeSet()
    tally.injected("B12")


def compact(own: OwnFeed, broker: FaultBroker) -> None:
    settings = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "1000"}
    changes = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()]
    admin = AdminClient({"bootstrap.servers": broker.direct})
    resource = ConfigResource(ResourceType.TOPIC, own.feed.topics.trades, incremental_configs=changes)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


def left_in(own: OwnFeed, broker: FaultBroker) -> set[tuple[int, int]]:
    """Partition and offset of each message that the broker has, by a plain consumer."""
    settings = {"bootstrap.servers": broker.direct, "group.id": "left", "enable.partition.eof": True}
    consumer, found, ended = Consumer(settings), set(), 0
    try:
        topic = own.topic()
        consumer.assign([TopicPartition(topic.name, each.partition, each.low) for each in topic.partitions])
        while ended < len(topic.partitions):
            for message in consumer.consume(1_000, 0.2):
                ended += message.error() is not None
                if message.error() is None:
                    found.add((message.partition(), message.offset()))
    finally:
        consumer.close()
    return found
