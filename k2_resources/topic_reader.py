"""Reads exact offset ranges of a topic, once each, in batches that say which offsets they stand for."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka._types import HeadersType

from k2_market.errors import K2Error
from k2_market.message_batch import MessageBatch
from k2_market.offset_ranges import OffsetRange, RangeSet, Span
from k2_resources.kafka_topics import KafkaTopics, KafkaUnavailable
from k2_resources.read_ahead import read_ahead
from k2_resources.structured_logging import kafka_client_logger

CORRELATION_HEADER = "correlation_id"
MESSAGES_PER_BATCH = 200_000
BYTES_PER_BATCH = 64 * 1024**2
_MESSAGES_PER_CALL = 4_000  # larger lists of message objects make the garbage collector dear
_CALL_SECONDS = 0.1  # a call waits this long for its full number before it gives what there is
STALL_SECONDS = 60.0


class OffsetsGone(K2Error):
    """Offsets that were asked for are no longer in the topic, or the topic is another one by now."""


@dataclass(frozen=True)
class ReadBatch:
    """Messages and the offsets that they account for; holes between and after them are covered too."""

    messages: MessageBatch
    covered: RangeSet


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

    def read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        """All messages of some ranges of this topic, batch by batch; the next is read while one is worked on.

        Raises:
            OffsetsGone: A range's start is no longer retained, or the topic is not the one of the ranges any more.
            KafkaUnavailable: No broker gave anything for ``STALL_SECONDS``.
        """
        with read_ahead(self._read(ranges)) as batches:
            yield from batches

    def _read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        for topic_id, spans in _layers(ranges):
            yield from self._read_layer(topic_id, spans)

    def _read_layer(self, topic_id: str, spans: dict[int, Span]) -> Iterator[ReadBatch]:
        cursors = {partition: _Cursor(*span) for partition, span in spans.items()}
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(self._topic, p, cursor.position) for p, cursor in cursors.items()])
            gathered = _Gathering(topic_id)
            last_message = time.monotonic()
            while cursors:
                messages = consumer.consume(_MESSAGES_PER_CALL, timeout=_CALL_SECONDS)
                if messages:
                    last_message = time.monotonic()
                elif time.monotonic() - last_message > STALL_SECONDS:
                    raise KafkaUnavailable(
                        f"Kafka at {self._bootstrap_servers}, topic {self._topic}: nothing for {STALL_SECONDS:.0f} s "
                        f"from partitions {sorted(cursors)}; what was read is committed, the rest stays pending"
                    )
                for partition in self._taken(messages, cursors, gathered):
                    gathered.covered.append(cursors.pop(partition).rest(topic_id, partition))
                    consumer.incremental_unassign([TopicPartition(self._topic, partition)])
                if gathered.full:
                    yield self._handed_out(gathered, cursors)
                    gathered = _Gathering(topic_id)
            if gathered.covered:
                yield self._handed_out(gathered, cursors)
        finally:
            consumer.close()

    def _handed_out(self, gathered: "_Gathering", cursors: dict[int, "_Cursor"]) -> ReadBatch:
        # A consumer knows a topic by its name alone. A topic that has its id still had it when the messages were read.
        self.require_same_topic(gathered.topic_id)
        return gathered.batch(cursors)

    def _taken(self, messages: list[Message], cursors: "dict[int, _Cursor]", gathered: "_Gathering") -> set[int]:
        """Take what a call gave; the partitions whose spans are read to their end by that."""
        events = [message for message in messages if message.error() is not None]
        if events:
            messages = [message for message in messages if message.error() is None]
        finished = gathered.add(messages, cursors)
        for event in events:
            if _partition(event) in cursors:
                finished.add(self._ended(event, cursors[_partition(event)]))
        return finished

    def _ended(self, event: Message, cursor: "_Cursor") -> int:
        """The partition whose end an event tells of."""
        error, partition, offset = event.error(), _partition(event), _offset(event)
        assert error is not None
        if error.code() != KafkaError._PARTITION_EOF:
            raise self._explain(error, partition)
        if offset < cursor.end:
            raise OffsetsGone(
                f"{self._topic}/{partition}: offsets [{offset}, {cursor.end}) were planned and are not there; "
                "the log was truncated or the topic recreated. The next plan looks at it anew"
            )
        return partition

    def _explain(self, error: KafkaError, partition: int) -> K2Error:
        where = f"{self._topic}/{partition}"
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return OffsetsGone(f"{where}: {error.str()}. The next plan records what retention removed")
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
                "queued.max.messages.kbytes": 32 * 1024,
                "queued.min.messages": 1_000_000,
                "fetch.max.bytes": 16 * 1024**2,
            },
            logger=kafka_client_logger("kafka-reader"),
        )


def _layers(ranges: RangeSet) -> Iterator[tuple[str, dict[int, Span]]]:
    """The ranges in rounds that hold at most one span a partition, so that reading never has to jump."""
    for topic_id in sorted({topic_id for topic_id, _ in ranges.spans}):
        spans = {partition: each for (topic, partition), each in ranges.spans.items() if topic == topic_id}
        for number in range(max(map(len, spans.values()))):
            yield topic_id, {partition: each[number] for partition, each in spans.items() if len(each) > number}


@dataclass
class _Cursor:
    """Where reading stands within one partition's span; ``start`` moves on when a batch is handed out."""

    start: int
    end: int
    position: int = -1

    def __post_init__(self) -> None:
        self.position = self.start

    def rest(self, topic_id: str, partition: int) -> OffsetRange:
        """What is left to be told of the span once it is read to its end."""
        return OffsetRange(topic_id, partition, self.start, self.end)


@dataclass
class _Gathering:
    """A batch being filled."""

    topic_id: str
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    correlation_ids: list[str | None] = field(default_factory=list)
    covered: list[OffsetRange] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def full(self) -> bool:
        return len(self.values) >= MESSAGES_PER_BATCH or self.size_bytes >= BYTES_PER_BATCH

    def add(self, messages: list[Message], cursors: dict[int, _Cursor]) -> set[int]:
        """Take the messages that lie within their partitions' spans; the partitions whose spans they end.

        One pass over all messages for each of their parts costs a third of one pass for all parts, message by message.
        """
        partitions: list[Any] = [message.partition() for message in messages]
        offsets: list[Any] = [message.offset() for message in messages]
        last = {p: offset for p, offset in zip(partitions, offsets, strict=True) if p in cursors}
        if len(last) < len(set(partitions)) or any(offset >= cursors[p].end for p, offset in last.items()):
            within = [p in last and offset < cursors[p].end for p, offset in zip(partitions, offsets, strict=True)]
            messages, partitions, offsets = (list(compress(each, within)) for each in (messages, partitions, offsets))
        for partition, offset in last.items():
            cursors[partition].position = min(offset + 1, cursors[partition].end)
        values = [message.value() for message in messages]
        self.partitions += partitions
        self.offsets += offsets
        self.timestamps_ms += [message.timestamp()[1] for message in messages]
        self.keys += [message.key() for message in messages]
        self.values += values
        self.correlation_ids += _correlation_ids([message.headers() for message in messages])
        self.size_bytes += sum(map(len, filter(None, values)))
        return {partition for partition in last if cursors[partition].position == cursors[partition].end}

    def batch(self, cursors: dict[int, _Cursor]) -> ReadBatch:
        """What was gathered; partitions in the middle of a span are covered up to where they stand."""
        for partition, cursor in cursors.items():
            if cursor.position > cursor.start:
                self.covered.append(OffsetRange(self.topic_id, partition, cursor.start, cursor.position))
                cursor.start = cursor.position
        messages = MessageBatch(
            topic_id=self.topic_id,
            partitions=self.partitions,
            offsets=self.offsets,
            timestamps_ms=self.timestamps_ms,
            keys=self.keys,
            values=self.values,
            correlation_ids=self.correlation_ids,
        )
        return ReadBatch(messages, RangeSet.of(self.covered))


def _partition(message: Message) -> int:
    return cast("int", message.partition())


def _offset(message: Message) -> int:
    return cast("int", message.offset())


def _correlation_ids(headers: "list[HeadersType | None]") -> list[str | None]:
    return [None if each is None else _correlation_id(tuple(each)) for each in headers]


@lru_cache(maxsize=1024)
def _correlation_id(headers: "tuple[tuple[str, str | bytes | None], ...]") -> str | None:
    for name, value in headers:
        if name == CORRELATION_HEADER and isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
    return None
