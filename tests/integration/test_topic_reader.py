"""Reading exact offset ranges from a real broker."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from wire_records import WireRecord
from wire_records import produce as produce_by_wire

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_resources.kafka import message_gathering, topic_reader
from k2_resources.kafka.message_gathering import ReadBatch
from k2_resources.kafka.topic_reader import OffsetsGone, TopicReader
from k2_resources.kafka.topics import KafkaTopics


@pytest.fixture
def topic(kafka) -> Iterator[str]:
    name = f"reader-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(name, 3, 1, config={"retention.ms": "-1"})])[name].result(30)
    yield name
    admin.delete_topics([name])[name].result(30)


def produce(kafka, topic: str, count: int, partition: int = 0, **config: object) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 5, **config})
    for n in range(count):
        producer.produce(
            topic, key=b"BHP", value=b"%d" % n, partition=partition, timestamp=1_394_000_000_000 + n * 1000,
            headers=[("correlation_id", b"load-1")],
        )  # fmt: skip
    assert producer.flush(30) == 0


def state(kafka, topic: str) -> TopicState:
    found = KafkaTopics(kafka.bootstrap_servers).state(topic)
    assert found is not None
    return found


def read(kafka, topic: str, ranges: RangeSet) -> list[ReadBatch]:
    return list(TopicReader(kafka.bootstrap_servers, topic, "k2-test").read(ranges))


def offsets(batches: list[ReadBatch]) -> list[tuple[int, int]]:
    return sorted((p, o) for b in batches for p, o in zip(b.messages.partitions, b.messages.offsets, strict=True))


def covered(batches: list[ReadBatch]) -> RangeSet:
    return RangeSet.of(each for batch in batches for each in batch.covered)


def test_a_topic_tells_its_uuid_and_the_bounds_of_its_logs(kafka, topic: str) -> None:
    produce(kafka, topic, 5, partition=1)
    seen = state(kafka, topic)
    assert len(seen.topic_id) == 22
    assert [(p.low, p.stable_end, p.high) for p in seen.partitions] == [(0, 0, 0), (0, 5, 5), (0, 0, 0)]
    assert KafkaTopics(kafka.bootstrap_servers).state("no-such-topic") is None


def test_exactly_the_offsets_asked_for_are_read_and_covered(kafka, topic: str) -> None:
    for partition in range(3):
        produce(kafka, topic, 100, partition=partition)
    topic_id = state(kafka, topic).topic_id
    wanted = RangeSet.of(
        [OffsetRange(topic_id, 0, 10, 20), OffsetRange(topic_id, 0, 50, 55), OffsetRange(topic_id, 2, 0, 100)]
    )
    batches = read(kafka, topic, wanted)
    assert offsets(batches) == [(r.partition, o) for r in wanted for o in range(r.start, r.end)]
    assert covered(batches) == wanted


def test_batches_are_bounded_disjoint_and_say_what_they_cover(
    kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_gathering, "MESSAGES_PER_BATCH", 500)
    monkeypatch.setattr(topic_reader, "_MESSAGES_PER_CALL", 100)
    produce(kafka, topic, 2_000)
    wanted = state(kafka, topic).readable
    batches = read(kafka, topic, wanted)
    assert len(batches) >= 4
    assert sum(len(batch.covered) for batch in batches) == len(covered(batches)) == 2_000
    assert all(len(batch.messages) == len(batch.covered) for batch in batches)


def test_holes_of_aborted_transactions_are_covered_without_rows(kafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"t-{topic}"})
    producer.init_transactions(30)
    for commit in (True, False, True, False):
        producer.begin_transaction()
        for n in range(10):
            producer.produce(topic, b"%d" % n, partition=0)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    seen = state(kafka, topic)
    batches = read(kafka, topic, seen.readable)
    assert sum(len(batch.messages) for batch in batches) == 20
    assert covered(batches) == seen.readable
    assert len(seen.readable) == 44


def test_an_open_transaction_is_not_yet_readable(kafka, topic: str) -> None:
    produce(kafka, topic, 5)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"open-{topic}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=0)
    producer.flush(30)
    (first, *_) = state(kafka, topic).partitions
    assert (first.stable_end, first.high) == (5, 6)
    producer.abort_transaction(30)


def test_offsets_that_retention_removed_are_refused_and_not_skipped(kafka, topic: str) -> None:
    produce(kafka, topic, 10)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        future.result(30)
    seen = state(kafka, topic)
    assert list(seen.removed) == [OffsetRange(seen.topic_id, 0, 0, 4)]
    with pytest.raises(OffsetsGone):
        read(kafka, topic, RangeSet.of([OffsetRange(seen.topic_id, 0, 0, 10)]))
    with pytest.raises(OffsetsGone):
        read(kafka, topic, RangeSet.of([OffsetRange(seen.topic_id, 0, 5, 15)]))


def test_messages_of_a_topic_made_anew_are_not_taken_for_those_of_the_old_one(kafka, topic: str) -> None:
    produce(kafka, topic, 10)
    planned = state(kafka, topic)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(30)
    produced_anew(kafka, admin, topic, 10)
    assert state(kafka, topic).topic_id != planned.topic_id
    with pytest.raises(OffsetsGone, match="made anew"):
        read(kafka, topic, planned.readable)


def produced_anew(kafka, admin: AdminClient, topic: str, count: int) -> None:
    """Messages in a topic that was just deleted; the broker may need a moment before it can be created again."""
    until_created = Retrying(
        retry=retry_if_exception_type(KafkaException), stop=stop_after_delay(30), wait=wait_fixed(0.1), reraise=True
    )
    until_created(lambda: admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30))
    produce(kafka, topic, count)


def test_a_partition_that_cannot_be_read_does_not_keep_the_others_back(kafka, topic: str) -> None:
    for partition in range(3):
        produce(kafka, topic, 100, partition=partition)
    planned = state(kafka, topic).readable
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, 1, 10)]).values():
        future.result(30)
    batches: list[ReadBatch] = []
    with pytest.raises(OffsetsGone, match=f"{topic}/1"):
        batches.extend(TopicReader(kafka.bootstrap_servers, topic, "k2-test").read(planned))
    assert covered(batches) == RangeSet.of(each for each in planned if each.partition != 1)
    assert offsets(batches) == [(partition, offset) for partition in (0, 2) for offset in range(100)]


def test_spans_that_come_later_are_read_though_an_earlier_span_of_another_partition_can_not_be(
    kafka, topic: str
) -> None:
    for partition in range(3):
        produce(kafka, topic, 100, partition=partition)
    topic_id = state(kafka, topic).topic_id
    spans = [(partition, *span) for partition in range(3) for span in ((0, 10), (50, 60), (90, 100))]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, 1, 5)]).values():
        future.result(30)
    batches: list[ReadBatch] = []
    planned = RangeSet.of(OffsetRange(topic_id, *span) for span in spans)
    with pytest.raises(OffsetsGone, match=f"{topic}/1"):
        batches.extend(TopicReader(kafka.bootstrap_servers, topic, "k2-test").read(planned))
    assert covered(batches) == RangeSet.of(OffsetRange(topic_id, *span) for span in spans if span[0] != 1)


def test_read_carefully_the_same_messages_come_a_batch_at_a_time(kafka, topic: str) -> None:
    for number in range(5):
        produce(kafka, topic, 10 + number, partition=number % 3)
    planned = state(kafka, topic).readable
    reader = TopicReader(kafka.bootstrap_servers, topic, "k2-test")
    careful = list(reader.carefully().read(planned))
    assert covered(careful) == planned
    assert offsets(careful) == offsets(list(reader.read(planned)))


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xed\xa0\x80", b"a\xff"])
def test_a_header_whose_name_is_no_text_costs_its_message_the_correlation_id_and_no_other(
    kafka, topic: str, name: bytes
) -> None:
    produce(kafka, topic, 3)
    strange = WireRecord(b"3", headers=[(b"correlation_id", b"load-2"), (name, b"v"), (b"correlation_id", b"load-3")])
    produce_by_wire(kafka.bootstrap_servers, topic, 0, [strange, strange])
    produce(kafka, topic, 3)
    for _ in range(3):
        (batch,) = read(kafka, topic, state(kafka, topic).readable)
        assert batch.messages.correlation_ids == ["load-1"] * 3 + [None] * 2 + ["load-1"] * 3
        assert list(batch.messages.values) == [b"0", b"1", b"2", b"3", b"3", b"0", b"1", b"2"]


def test_record_times_that_are_no_instants_are_left_out_of_what_a_plan_looks_at(kafka, topic: str) -> None:
    produce_by_wire(kafka.bootstrap_servers, topic, 0, [WireRecord(b"x", timestamp_ms=-5)])
    produce_by_wire(kafka.bootstrap_servers, topic, 1, [WireRecord(b"x", timestamp_ms=-1)])
    produce(kafka, topic, 1, partition=2)
    seen = state(kafka, topic)
    first = KafkaTopics(kafka.bootstrap_servers).first_timestamps(seen, seen.readable)
    assert first == {2: datetime.fromtimestamp(1_394_000_000, UTC)}


def test_an_instant_before_1970_lies_before_every_record(kafka, topic: str) -> None:
    produce(kafka, topic, 2)
    seen = state(kafka, topic)
    before = datetime(1969, 12, 31, tzinfo=UTC)
    assert KafkaTopics(kafka.bootstrap_servers).offsets_at(seen, before) == {0: 0, 1: 0, 2: 0}


def test_messages_bring_their_key_time_and_correlation_id(kafka, topic: str) -> None:
    produce(kafka, topic, 2)
    (batch,) = read(kafka, topic, state(kafka, topic).readable)
    assert batch.messages.keys == [b"BHP", b"BHP"]
    assert list(batch.messages.timestamps_ms) == [1_394_000_000_000, 1_394_000_001_000]
    assert batch.messages.correlation_ids == ["load-1", "load-1"]


def test_where_an_instant_lies_in_each_log(kafka, topic: str) -> None:
    produce(kafka, topic, 10)
    seen = state(kafka, topic)
    at = datetime.fromtimestamp(1_394_000_004, UTC)
    assert KafkaTopics(kafka.bootstrap_servers).offsets_at(seen, at) == {0: 4, 1: 0, 2: 0}
    first = KafkaTopics(kafka.bootstrap_servers).first_timestamps(
        seen, RangeSet.of([OffsetRange(seen.topic_id, 0, 3, 9)])
    )
    assert first == {0: datetime.fromtimestamp(1_394_000_003, UTC)}


def test_mirrored_offsets_are_the_ends_of_what_is_covered_without_a_break(kafka, topic: str) -> None:
    for partition in range(3):
        produce(kafka, topic, 10, partition=partition)
    topic_id = state(kafka, topic).topic_id
    covered = RangeSet.of(OffsetRange(topic_id, *each) for each in ((0, 0, 4), (0, 6, 9), (1, 2, 5), (2, 0, 10)))
    KafkaTopics(kafka.bootstrap_servers).mirror(topic, f"mirror-{topic}", covered)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"mirror-{topic}"})
    committed = consumer.committed([TopicPartition(topic, partition) for partition in range(3)], timeout=10)
    consumer.close()
    assert [max(each.offset, -1) for each in committed] == [4, -1, 10]


def test_no_offset_is_committed_to_kafka_by_reading(kafka, topic: str) -> None:
    produce(kafka, topic, 10)
    read(kafka, topic, state(kafka, topic).readable)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "k2-test"})
    (committed,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
    consumer.close()
    assert committed.offset < 0
