"""Reads exact offset ranges of a topic, once each, in batches that say which offsets they stand for."""

import time
from collections.abc import Generator, Iterator
from copy import copy
from functools import cached_property

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet, Span
from k2_market.ledger.topic_state import TopicState
from k2_market.plans.failed_runs import OffsetsAtFault
from k2_resources.kafka.message_gathering import Cursor, Gathering, ReadBatch, offset_of, partition_of
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.logs.structured_logging import kafka_client_logger
from k2_resources.runtime.read_ahead import read_ahead

_MESSAGES_PER_CALL = 1_000  # few enough for their objects to stay in the processor's cache
_CALL_SECONDS = 0.1  # a call waits this long for its full number before it gives what there is
STALL_SECONDS = 60.0
_ONE_BATCH_AT_A_TIME = {
    # A broker's answer has a whole batch at least. The client holds its limit to be no smaller than a message's.
    "message.max.bytes": 1_000,
    "fetch.max.bytes": 1_000,
    "max.partition.fetch.bytes": 1,
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 5,
}
_PROBE_SECONDS = 5.0
"""Within which a partition gives something, or word that there is nothing, if it can be read at all."""
_DAMAGED = frozenset(
    {
        KafkaError._BAD_COMPRESSION,
        KafkaError._BAD_MSG,
        KafkaError._NOT_IMPLEMENTED,  # a format or a codec that the client does not know
        KafkaError.INVALID_MSG,  # the broker's own word for a batch whose checksum is wrong
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)


class OffsetsGone(K2Error):
    """Offsets that were asked for are no longer in the topic, or the topic is another one by now."""


class Unreadable(OffsetsAtFault):
    """Says that offsets hold something that the client can't make messages of: damaged, or compressed beyond bounds.

    Behind them their partitions can be read.
    """


class TopicReader:
    """Reads offset ranges of one topic of a cluster.

    It assigns itself partitions and offsets and belongs to no group: the ledger says what is to be read, and
    nothing that Kafka remembers is consulted.
    """

    def __init__(self, bootstrap_servers: str, topic: str, group: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._group = group
        self._careful = False

    def carefully(self) -> "TopicReader":
        """Make a reader of the same topic that reads one batch at a time, and none behind those that it needs.

        What follows a range is read ahead otherwise, and may hold what takes more memory than there is.
        """
        careful = copy(self)
        careful._careful = True
        return careful

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
        """Return the bounds of the topic's logs, which are those of the topic of an id.

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
        """Return all messages of some ranges of this topic, batch by batch; the next is read while one is worked on.

        A partition that can't be read on does not keep the others back: its error comes when these are read.

        Raises:
            OffsetsGone: A range's start is no longer retained, or the topic is not the one of the ranges any more.
            Unreadable: Some offsets hold something that the client can't make messages of.
            KafkaUnavailable: No broker gave anything for ``STALL_SECONDS``.
        """
        with read_ahead(self._read(ranges)) as batches:
            yield from batches

    def _read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        failures: dict[tuple[str, int], K2Error] = {}
        for topic_id, spans in _layers(ranges):
            left = {partition: span for partition, span in spans.items() if (topic_id, partition) not in failures}
            failed = (yield from self._read_layer(topic_id, left)) if left else {}
            failures |= {(topic_id, partition): error for partition, error in failed.items()}
        _raise_worst(list(failures.values()))

    def _read_layer(self, topic_id: str, spans: dict[int, Span]) -> Generator[ReadBatch, None, dict[int, K2Error]]:
        """Read one span of each partition; give the errors of those that could not be read to their spans' ends."""
        cursors = {partition: Cursor(*span) for partition, span in spans.items()}
        reading = dict(cursors)
        failures: dict[int, K2Error] = {}
        failed: dict[int, Message] = {}
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(self._topic, p, cursor.position) for p, cursor in cursors.items()])
            gathered = Gathering(topic_id)
            position, moved = -1, time.monotonic()
            while reading:
                messages = consumer.consume(_MESSAGES_PER_CALL, timeout=_CALL_SECONDS)
                done, events = gathered.take(messages, reading)
                failed |= {partition_of(event): event for event in events}
                if done or position != (position := sum(cursor.position for cursor in reading.values())):
                    moved = time.monotonic()
                elif time.monotonic() - moved > STALL_SECONDS:
                    silent = self._silent(topic_id, reading)
                    failures |= silent
                    done |= silent.keys()
                for partition in done:
                    del reading[partition]
                    consumer.incremental_unassign([TopicPartition(self._topic, partition)])
                if gathered.full:
                    yield self._handed_out(gathered, cursors)
                    gathered = Gathering(topic_id)
            if any(cursor.position > cursor.start for cursor in cursors.values()):
                yield self._handed_out(gathered, cursors)
        finally:
            consumer.close()
        # Last, since it takes a while to find out where a partition can be read again.
        return failures | {number: self._explain(topic_id, event, cursors[number]) for number, event in failed.items()}

    def _handed_out(self, gathered: Gathering, cursors: dict[int, Cursor]) -> ReadBatch:
        # A consumer knows a topic by its name alone. A topic that has its id still had it when the messages were read.
        self.require_same_topic(gathered.topic_id)
        return gathered.batch(cursors)

    def _explain(self, topic_id: str, event: Message, cursor: Cursor) -> K2Error:
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
            found = self._unreadable(topic_id, partition_of(event), cursor.position, error.str())
            return found or KafkaUnavailable(f"{where}: {error.str()}, at first; it can be read by now")
        return KafkaUnavailable(f"Kafka at {self._bootstrap_servers}, {where}: {error.str()}")

    def _silent(self, topic_id: str, reading: dict[int, Cursor]) -> dict[int, K2Error]:
        """Make the errors of partitions that give nothing though their broker answers.

        What one of them holds may keep others from being read beside it: these can be read now.

        Raises:
            KafkaUnavailable: No broker answers, or all of the partitions can be read, and gave nothing all the same.
        """
        found: dict[int, K2Error] = {}
        for number, cursor in reading.items():
            try:
                error = self._unreadable(topic_id, number, cursor.position, f"nothing came for {STALL_SECONDS:.0f} s")
            except KafkaUnavailable as unanswered:
                raise self._stalled(reading) from unanswered
            if isinstance(error, KafkaUnavailable):
                raise error
            if error is not None:
                found[number] = error
        if not found:
            raise self._stalled(reading)
        return found

    def _stalled(self, reading: dict[int, Cursor]) -> KafkaUnavailable:
        return KafkaUnavailable(
            f"Kafka at {self._bootstrap_servers}, topic {self._topic}: nothing for {STALL_SECONDS:.0f} s "
            f"from partitions {sorted(reading)}; what was read is committed, the rest stays pending"
        )

    def _unreadable(
        self, topic_id: str, partition: int, position: int, reason: str
    ) -> Unreadable | KafkaUnavailable | None:
        """Make the error for what can't be read at a position, up to where a client reads on; None if all can."""
        end = self._end(topic_id, partition)
        if end <= position or not self._reads(partition, end):
            return KafkaUnavailable(
                f"Kafka at {self._bootstrap_servers}, {self._topic}/{partition}, offset {position}: {reason}, and not "
                "even the end of its log can be read; what was read is committed, the rest stays pending"
            )
        if self._reads(partition, position):
            return None
        found = OffsetRange(topic_id, partition, position, self._readable_again(partition, position, end))
        return Unreadable(
            f"{self._topic}/{partition}: the batch at offset {position} can't be read: {reason}. Offsets {found} are "
            "tried again, and set aside if they can't be read then either; what lies behind them is read",
            RangeSet.of([found]),
        )

    def _end(self, topic_id: str, partition: int) -> int:
        """Ask for the end of what can be read of a partition; 0 where topic or partition is not there any more."""
        state = self._topics.state(self._topic)
        if state is None or state.topic_id != topic_id:
            return 0
        return next((each.stable_end for each in state.partitions if each.partition == partition), 0)

    def _readable_again(self, partition: int, unreadable: int, end: int) -> int:
        """Find the first offset behind an unreadable one from which a client reads on, by doubled steps and halves."""
        step = 1
        while unreadable + step < end and not self._reads(partition, unreadable + step):
            unreadable, step = unreadable + step, 2 * step
        readable = min(unreadable + step, end)
        while readable - unreadable > 1:
            middle = (unreadable + readable) // 2
            if self._reads(partition, middle):
                readable = middle
            else:
                unreadable = middle
        return readable

    def _reads(self, partition: int, offset: int) -> bool:
        """Try whether a client that begins at an offset is given a message, or word that the log ends there."""
        consumer = self.carefully()._consumer()
        try:
            consumer.assign([TopicPartition(self._topic, partition, offset)])
            until = time.monotonic() + _PROBE_SECONDS
            while time.monotonic() < until:
                for message in consumer.consume(1, timeout=_CALL_SECONDS):
                    error = message.error()
                    return error is None or error.code() == KafkaError._PARTITION_EOF
            return False
        finally:
            consumer.close()

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
                **(_ONE_BATCH_AT_A_TIME if self._careful else {}),
            },
            logger=kafka_client_logger("kafka-reader"),
        )


def _raise_worst(failures: list[K2Error]) -> None:
    """Raise what some partitions could not be read on for, all unreadable offsets as one error.

    What is unreadable stays so; any other failure is another one, or none, at the next attempt.
    """
    unreadable = [each for each in failures if isinstance(each, Unreadable)]
    if unreadable:
        raise Unreadable("; ".join(map(str, unreadable)), RangeSet.of(r for each in unreadable for r in each.ranges))
    if failures:
        raise failures[0]


def _layers(ranges: RangeSet) -> Iterator[tuple[str, dict[int, Span]]]:
    """Yield the ranges in rounds that hold at most one span a partition, so that reading never has to jump."""
    for topic_id in sorted({topic_id for topic_id, _ in ranges.spans}):
        spans = {partition: each for (topic, partition), each in ranges.spans.items() if topic == topic_id}
        for number in range(max(map(len, spans.values()))):
            yield topic_id, {partition: each[number] for partition, each in spans.items() if len(each) > number}
