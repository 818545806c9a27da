"""Collects the messages that the Kafka client returns as columns, up to the end of each requested range."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from typing import cast

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, Message

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.batch import MessageBatch
from k2_market.messages.value_buffer import JoinedPart, JoinedValues
from k2_resources.kafka.message_headers import correlation_ids

MESSAGES_PER_BATCH = 150_000
BYTES_PER_BATCH = 64 * 1024**2

_MILLISECONDS = itemgetter(1)
_NO_PARTITIONS = np.empty(0, np.int32)
_NO_OFFSETS = np.empty(0, np.int64)


@dataclass(frozen=True)
class ReadBatch:
    """Messages and the offsets that they account for; holes between and after them are covered too."""

    messages: MessageBatch
    covered: RangeSet

    def parts(self, sizes: Sequence[int]) -> Iterator["ReadBatch"]:
        """Cut the batch into parts of so many messages; each covers what lies before its last messages and is left."""
        left, start = self.covered, 0
        for size in sizes:
            part = self.messages.part(start, start + size)
            start += size
            # Within a partition offsets only grow, so what was put in later stands.
            ends = dict(zip(map(int, part.partitions), map(int, part.offsets), strict=True))
            until = RangeSet.of(OffsetRange(part.topic_id, number, 0, end + 1) for number, end in ends.items())
            covered = left if start == len(self.messages) else left & until
            left = left - covered
            yield ReadBatch(part, covered)


@dataclass
class Cursor:
    """Describes where reading stands within one partition's span; ``start`` moves on when a batch is handed out."""

    start: int
    end: int
    position: int = -1

    def __post_init__(self) -> None:
        """Begin at the span's start."""
        self.position = self.start


@dataclass
class Gathering:
    """A batch being filled."""

    topic_id: str
    partitions: list[npt.NDArray[np.int32]] = field(default_factory=list)
    offsets: list[npt.NDArray[np.int64]] = field(default_factory=list)
    timestamps_ms: list[npt.NDArray[np.int64]] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[JoinedPart] = field(default_factory=list)
    correlation_ids: list[str | None] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def full(self) -> bool:
        """Say whether it is to be handed out."""
        return len(self.keys) >= MESSAGES_PER_BATCH or self.size_bytes >= BYTES_PER_BATCH

    def take(self, messages: list[Message], reading: dict[int, Cursor]) -> tuple[set[int], list[Message]]:
        """Take what a call gave, up to each partition's end or failure.

        Args:
            messages: Messages and the client's events among them, in its order.
            reading: The partitions that are still to be read; what comes of others is passed over.

        Returns:
            The partitions that are done with by that, and those of the events that ended one before its span's end.
        """
        if not any(map(Message.error, messages)):
            return self._add(messages, reading), []
        done: set[int] = set()
        failures = []
        start = 0
        for at in [number for number, message in enumerate(messages) if message.error() is not None]:
            done |= self._add(messages[start:at], _without(reading, done))
            start, event, partition = at + 1, messages[at], partition_of(messages[at])
            if partition not in reading or partition in done:
                continue
            done.add(partition)
            if _is_end(event) and offset_of(event) >= reading[partition].end:
                reading[partition].position = reading[partition].end
            else:
                failures.append(event)
        return done | self._add(messages[start:], _without(reading, done)), failures

    def _add(self, messages: list[Message], reading: dict[int, Cursor]) -> set[int]:
        """Take the messages that lie within their partitions' spans; the partitions whose spans they end.

        One pass over all messages for each of their parts, called from C, costs a fraction of one pass for all parts.
        And all of it is done in one hold of Python's lock: what is given away between two steps is long in coming back.
        """
        partitions = list(map(partition_of, messages))
        offsets = list(map(offset_of, messages))
        last = dict(zip(partitions, offsets, strict=True))
        if any(partition not in reading or offset >= reading[partition].end for partition, offset in last.items()):
            within = [p in reading and offset < reading[p].end for p, offset in zip(partitions, offsets, strict=True)]
            messages, partitions, offsets = (list(compress(each, within)) for each in (messages, partitions, offsets))
            last = {partition: offset for partition, offset in last.items() if partition in reading}
        for partition, offset in last.items():
            reading[partition].position = min(offset + 1, reading[partition].end)
        values = JoinedPart.of(list(map(Message.value, messages)))
        self.partitions.append(np.array(partitions, np.int32))
        self.offsets.append(np.array(offsets, np.int64))
        timestamps = map(_MILLISECONDS, map(Message.timestamp, messages))
        self.timestamps_ms.append(np.fromiter(timestamps, np.int64, len(messages)))
        self.keys += map(Message.key, messages)
        self.values.append(values)
        self.correlation_ids += correlation_ids(messages)
        self.size_bytes += values.size_bytes
        return {partition for partition in last if reading[partition].position == reading[partition].end}

    def batch(self, cursors: dict[int, Cursor]) -> ReadBatch:
        """Tell what was gathered; each partition is covered up to where it stands."""
        covered = []
        for partition, cursor in cursors.items():
            if cursor.position > cursor.start:
                covered.append(OffsetRange(self.topic_id, partition, cursor.start, cursor.position))
                cursor.start = cursor.position
        messages = MessageBatch(
            topic_id=self.topic_id,
            partitions=np.concatenate([_NO_PARTITIONS, *self.partitions]),
            offsets=np.concatenate([_NO_OFFSETS, *self.offsets]),
            timestamps_ms=np.concatenate([_NO_OFFSETS, *self.timestamps_ms]),
            keys=self.keys,
            values=JoinedValues.concat(self.values),
            correlation_ids=self.correlation_ids,
        )
        return ReadBatch(messages, RangeSet.of(covered))


partition_of = cast("Callable[[Message], int]", Message.partition)
"""A message's or an event's partition."""

offset_of = cast("Callable[[Message], int]", Message.offset)
"""A message's offset, or the one that an event tells of."""


def _is_end(event: Message) -> bool:
    error = event.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _without(reading: dict[int, Cursor], done: set[int]) -> dict[int, Cursor]:
    return {partition: cursor for partition, cursor in reading.items() if partition not in done} if done else reading
