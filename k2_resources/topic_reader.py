"""Reads exact offset ranges of a topic, once each, in batches that say which offsets they stand for."""

import time
from collections.abc import Generator, Iterator
from functools import cached_property

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from k2_market.errors import K2Error
from k2_market.offset_ranges import RangeSet, Span
from k2_market.topic_state import TopicState
from k2_resources.kafka_topics import KafkaTopics, KafkaUnavailable
from k2_resources.message_gathering import Cursor, Gathering, ReadBatch, offset_of, partition_of
from k2_resources.read_ahead import read_ahead
from k2_resources.structured_logging import kafka_client_logger

_MESSAGES_PER_CALL = 1_000  # few enough for their objects to stay in the processor's cache
_CALL_SECONDS = 0.1  # a call waits this long for its full number before it gives what there is
STALL_SECONDS = 60.0
_DAMAGED = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})


class OffsetsGone(K2Error):
    """Offsets that were asked for are no longer in the topic, or the topic is another one by now."""


class Unreadable(K2Error):
    """A partition holds something that no client can make messages of: damaged, or compressed beyond bounds."""


class TopicReader:
    """Reads offset ranges of one topic of a cluster.

    It assigns itself partitions and offsets and belongs to no group: the ledger says what is to be read, and
    nothing that Kafka remembers is consulted.
    """

    def __init__(self, bootstrap_servers: str, topic: str, group: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._group = group

    @cached_property
    def _topics(self) -> KafkaTopics:
        return KafkaTopics(self._bootstrap_servers)

    def require_same_topic(self, topic_id: str) -> None:
        """See that the topic is still the one of an id.

        Raises:
            OffsetsGone: It was deleted or created anew.
            KafkaUnavailable: No broker answered.
        """
        found = self._topics.topic_id(self._topic)
        if found != topic_id:
            raise OffsetsGone(
                f"{self._topic}: offsets of topic {topic_id} are to be read, and there is "
                f"{'no topic' if found is None else f'topic {found}'}: it was deleted or made anew. Its offsets mean "
                "other messages now; the next plan looks at it anew"
            )

    def state(self, topic_id: str) -> TopicState:
        """The bounds of the topic's logs, which are those of the topic of an id.

        Raises:
            OffsetsGone: The topic is another one, or there is none.
            KafkaUnavailable: No broker answered.
        """
        found = self._topics.state(self._topic)
        # A broker knows logs by their topic's name: if the topic still has its id, they were its own.
        self.require_same_topic(topic_id)
        if found is None or found.topic_id != topic_id:
            raise OffsetsGone(f"{self._topic}: it was made anew while it was looked at. The next plan looks at it anew")
        return found

    def read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        """All messages of some ranges of this topic, batch by batch; the next is read while one is worked on.

        A partition that can't be read on does not keep the others back: its error comes when these are read.

        Raises:
            OffsetsGone: A range's start is no longer retained, or the topic is not the one of the ranges any more.
            Unreadable: A partition holds something that no client can make messages of.
            KafkaUnavailable: No broker gave anything for ``STALL_SECONDS``.
        """
        with read_ahead(self._read(ranges)) as batches:
            yield from batches

    def _read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        for topic_id, spans in _layers(ranges):
            yield from self._read_layer(topic_id, spans)

    def _read_layer(self, topic_id: str, spans: dict[int, Span]) -> Iterator[ReadBatch]:
        cursors = {partition: Cursor(*span) for partition, span in spans.items()}
        reading = dict(cursors)
        failures: list[K2Error] = []
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(self._topic, p, cursor.position) for p, cursor in cursors.items()])
            gathered = Gathering(topic_id)
            last_message = time.monotonic()
            while reading:
                messages = consumer.consume(_MESSAGES_PER_CALL, timeout=_CALL_SECONDS)
                if messages:
                    last_message = time.monotonic()
                elif time.monotonic() - last_message > STALL_SECONDS:
                    raise KafkaUnavailable(
                        f"Kafka at {self._bootstrap_servers}, topic {self._topic}: nothing for {STALL_SECONDS:.0f} s "
                        f"from partitions {sorted(reading)}; what was read is committed, the rest stays pending"
                    )
                done, failed = gathered.take(messages, reading)
                failures += [self._explain(event, reading[partition_of(event)]) for event in failed]
                for partition in done:
                    del reading[partition]
                    consumer.incremental_unassign([TopicPartition(self._topic, partition)])
                if gathered.full:
                    yield self._handed_out(gathered, cursors)
                    gathered = Gathering(topic_id)
            if any(cursor.position > cursor.start for cursor in cursors.values()):
                yield self._handed_out(gathered, cursors)
            if failures:
                raise failures[0]
        finally:
            consumer.close()

    def _handed_out(self, gathered: Gathering, cursors: dict[int, Cursor]) -> ReadBatch:
        # A consumer knows a topic by its name alone. A topic that has its id still had it when the messages were read.
        self.require_same_topic(gathered.topic_id)
        return gathered.batch(cursors)

    def _explain(self, event: Message, cursor: Cursor) -> K2Error:
        error, where = event.error(), f"{self._topic}/{partition_of(event)}"
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            return OffsetsGone(
                f"{where}: offsets [{offset_of(event)}, {cursor.end}) were planned and are not there; the log was "
                "truncated or the topic recreated. The next plan looks at it anew"
            )
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return OffsetsGone(f"{where}: {error.str()}. The next plan records what retention removed")
        if error.code() in _DAMAGED:
            return Unreadable(
                f"{where}: the batch at offset {cursor.position} can't be read: {error.str()}. It is tried again and "
                "again, and nothing behind it in its partition is read. To go on without it, delete the partition's "
                "records up to the batch's end (kafka-delete-records): they are recorded as lost"
            )
        return KafkaUnavailable(f"Kafka at {self._bootstrap_servers}, {where}: {error.str()}")

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": self._group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "check.crcs": True,
                "max.poll.interval.ms": 300_000,
                "queued.max.messages.kbytes": 16 * 1024,
                "queued.min.messages": 1_000_000,
                "fetch.max.bytes": 8 * 1024**2,
                "fetch.queue.backoff.ms": 20,  # a full queue is empty again in less than the default of a second
            },
            logger=kafka_client_logger("kafka-reader"),
        )


def _layers(ranges: RangeSet) -> Iterator[tuple[str, dict[int, Span]]]:
    """The ranges in rounds that hold at most one span a partition, so that reading never has to jump."""
    for topic_id in sorted({topic_id for topic_id, _ in ranges.spans}):
        spans = {partition: each for (topic, partition), each in ranges.spans.items() if topic == topic_id}
        for number in range(max(map(len, spans.values()))):
            yield topic_id, {partition: each[number] for partition, each in spans.items() if len(each) > number}
