"""A broker in memory, and the clients that ask and read it: K2's own, down to where the network would begin."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from confluent_kafka import TIMESTAMP_CREATE_TIME, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from simulated_turns import Turns

from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable

POLL = "polls"
_TOPIC = "simulated"
CLIENT_WAITS_SECONDS = 10.0
"""A simulated client that gets nothing from the broker looks again after so long, to keep schedules short."""


class Fate(Enum):
    """What became of an offset of a log."""

    COMMITTED = auto()
    OPEN = auto()
    ABORTED = auto()
    MARKER = auto()


class Harm(Enum):
    """What a message does to whoever has to do with it."""

    KILLS_DECODER = "kills the process that decodes it"
    HANGS_DECODER = "keeps the process that decodes it busy until the daemon ends that"
    FAILS_RUN = "makes its run fail in a way that nobody foresaw"
    UNREADABLE = "is something that no client can make a message of"
    KILLS_READER = "kills the process that reads it"


@dataclass
class Entry:
    """An offset of a log: a message, or a transaction's marker."""

    fate: Fate
    value: bytes | None = None
    key: bytes | None = None
    timestamp_ms: int = -1
    harm: Harm | None = None


@dataclass
class SimulatedLog:
    """A partition's log; ``entries`` holds what retention removed too."""

    entries: list[Entry] = field(default_factory=list)
    low: int = 0

    @property
    def high(self) -> int:
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        opened = (offset for offset, entry in enumerate(self.entries) if entry.fate is Fate.OPEN)
        return next(opened, self.high)


@dataclass
class SimulatedTopic:
    """A topic's logs, under the id that it was created with."""

    topic_id: str
    logs: list[SimulatedLog]


@dataclass
class Transaction:
    """A producer's transaction: its entries, by partition."""

    topic: SimulatedTopic
    entries: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))


class SimulatedBroker:
    """A broker with one topic, which may be deleted and made anew.

    Attributes:
        topic: The topic as it is; None while there is none.
        acked: Everything ever written at each place, in order: more than one entry where a log was truncated.
        removed: Places that retention removed.
        truncated: Places that a truncation cut off.
        down_until: Until when no client gets an answer.
        changes: How often anything changed.
    """

    def __init__(self, name: str, random: Random, turns: Turns) -> None:
        self.name = name
        self.turns = turns
        self.random = random
        self.topic: SimulatedTopic | None = None
        self.acked: dict[tuple[str, int, int], list[Entry]] = defaultdict(list)
        self.removed: set[tuple[str, int, int]] = set()
        self.truncated: set[tuple[str, int, int]] = set()
        self.open: list[Transaction] = []
        self.down_until = 0.0
        self.changes = 0

    @property
    def is_down(self) -> bool:
        return self.turns.now < self.down_until

    def create(self, partitions: int) -> None:
        """Create the topic, in place of the one that is there: its messages and open transactions are gone."""
        topic_id = str(UUID(int=self.random.getrandbits(128), version=4))
        self.topic = SimulatedTopic(topic_id, [SimulatedLog() for _ in range(partitions)])
        self.open = []
        self.changes += 1

    def produce(self, partition: int, entry: Entry) -> None:
        """Write an entry at the end of a partition."""
        assert self.topic is not None
        log = self.topic.logs[partition]
        self.acked[self.topic.topic_id, partition, log.high].append(entry)
        log.entries.append(entry)
        self.changes += 1

    def begin(self) -> Transaction:
        """Begin a transaction."""
        assert self.topic is not None
        self.open.append(Transaction(self.topic))
        return self.open[-1]

    def produce_within(self, transaction: Transaction, partition: int, entry: Entry) -> None:
        """Write an entry that is open until its transaction ends."""
        entry.fate = Fate.OPEN
        transaction.entries[partition].append(entry)
        self.produce(partition, entry)

    def end(self, transaction: Transaction, fate: Fate) -> None:
        """Commit or abort a transaction; its markers take an offset each."""
        self.open.remove(transaction)
        for partition, entries in transaction.entries.items():
            for entry in entries:
                entry.fate = fate
            self.produce(partition, Entry(Fate.MARKER))

    def retain_from(self, partition: int, low: int) -> None:
        """Remove a log's offsets before ``low``."""
        assert self.topic is not None
        log = self.topic.logs[partition]
        self.removed |= {(self.topic.topic_id, partition, offset) for offset in range(log.low, low)}
        log.low = max(log.low, low)
        self.changes += 1

    def add_partitions(self, count: int) -> None:
        """Give the topic more partitions."""
        assert self.topic is not None
        self.topic.logs += [SimulatedLog() for _ in range(count)]
        self.changes += 1

    def truncate(self, partition: int, high: int) -> None:
        """Lose a log's end, though it was acknowledged."""
        assert self.topic is not None
        log = self.topic.logs[partition]
        self.truncated |= {(self.topic.topic_id, partition, offset) for offset in range(high, log.high)}
        del log.entries[high:]
        self.changes += 1

    def unanswered(self) -> KafkaException:
        """What a client's call ends with while the broker is down."""
        return KafkaException(KafkaError(KafkaError._TRANSPORT, "simulated broker is down"))

    def log_of(self, partition: int) -> SimulatedLog | None:
        """The log that a partition's number names now."""
        logs = [] if self.topic is None else self.topic.logs
        return logs[partition] if partition < len(logs) else None


class SimulatedTopics(KafkaTopics):
    """Asks a simulated broker about its topic; what answers mean is decided by the real class."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self._bootstrap_servers = "simulated"
        self._broker = broker

    def first_timestamps(self, topic: TopicState, ranges: RangeSet) -> dict[int, datetime]:
        self._broker.turns.step("peeks at first messages")
        if self._broker.is_down:
            raise KafkaUnavailable("simulated broker is down")
        starts: dict[int, int] = {}
        for each in ranges:
            starts.setdefault(each.partition, each.start)
        found = {}
        for partition, start in starts.items():
            log = self._broker.log_of(partition)
            entries = [] if log is None else log.entries[start:]
            first = next((each for each in entries if each.fate is Fate.COMMITTED and each.timestamp_ms >= 0), None)
            if first is not None:
                found[partition] = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
        return found

    def _describe(self, topic: str) -> Any:
        self._broker.turns.step("describes the topic")
        if self._broker.is_down:
            raise self._broker.unanswered()
        if self._broker.topic is None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        partitions = [SimpleNamespace(id=number) for number in range(len(self._broker.topic.logs))]
        return SimpleNamespace(topic_id=self._broker.topic.topic_id, partitions=partitions)

    def _list_offsets(self, topic: str, wanted: Mapping[int, Any], isolation: IsolationLevel) -> dict[int, int]:
        if self._broker.random.random() < _SEEN_LISTING:
            self._broker.turns.step("lists offsets")
        if self._broker.is_down:
            raise self._broker.unanswered()
        return {
            partition: self._offset(partition, specification._value, isolation)
            for partition, specification in wanted.items()
        }

    def _offset(self, partition: int, specification: int, isolation: IsolationLevel) -> int:
        log = self._broker.log_of(partition)
        if log is None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        if specification == _EARLIEST:
            return log.low
        if specification == _LATEST:
            return log.stable_end if isolation == IsolationLevel.READ_COMMITTED else log.high
        at_or_after = (n for n in range(log.low, log.high) if log.entries[n].timestamp_ms >= specification)
        return next(at_or_after, -1)


_LATEST, _EARLIEST = -1, -2
_SEEN_LISTING = 0.5
"""Share of offset listings before which others have a turn: each look at a topic has three of them."""


class SimulatedReader(TopicReader):
    """Reads a simulated broker; what is read, covered and refused is decided by the real class."""

    def __init__(self, broker: SimulatedBroker) -> None:
        super().__init__("simulated", broker.name, "simulated")
        self._broker = broker
        self._topics = SimulatedTopics(broker)

    def _consumer(self) -> Any:
        return SimulatedConsumer(self._broker, careful=self._careful)


class SimulatedConsumer:
    """A ``read_committed`` consumer that was assigned its partitions, as librdkafka behaves towards its caller."""

    def __init__(self, broker: SimulatedBroker, *, careful: bool = False) -> None:
        self._broker = broker
        self._sizes = (1,) if careful else (1, 3, 10, 100)
        self._positions: dict[int, int] = {}
        self._told_end: dict[int, int] = {}

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._positions = {each.partition: each.offset for each in partitions}

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            del self._positions[each.partition]

    def consume(self, most: int, timeout: float) -> list[Message]:
        self._broker.turns.step(POLL)
        found = [] if self._broker.is_down else list(self._fetched())
        if not found:
            self._broker.turns.step("polls in vain", seconds=CLIENT_WAITS_SECONDS)
        return found

    def close(self) -> None:
        """Nothing to close."""

    def _fetched(self) -> Iterator[Message]:
        random = self._broker.random
        for partition in random.sample(sorted(self._positions), len(self._positions)):
            if len(self._positions) == 1 or random.random() < 0.7:
                yield from self._fetched_from(partition, random.choice(self._sizes))

    def _fetched_from(self, partition: int, most: int) -> Iterator[Message]:
        log, position = self._broker.log_of(partition), self._positions[partition]
        if log is None:
            yield event_message(partition, position, KafkaError.UNKNOWN_TOPIC_OR_PART)
        elif not log.low <= position <= log.high:
            yield event_message(partition, position, KafkaError._AUTO_OFFSET_RESET)
        else:
            end = log.stable_end
            while position < end and most:
                entry = log.entries[position]
                if entry.fate is Fate.COMMITTED and entry.harm is Harm.UNREADABLE:
                    self._positions[partition] = position
                    yield event_message(partition, position, KafkaError._BAD_MSG)
                    return
                if entry.fate is Fate.COMMITTED:
                    if entry.harm is Harm.KILLS_READER:
                        self._broker.turns.die("a message that it reads")
                    yield _message(partition, position, entry)
                    most -= 1
                position += 1
            if position >= end and self._told_end.get(partition) != position:
                self._told_end[partition] = position
                yield event_message(partition, position, KafkaError._PARTITION_EOF)
            self._positions[partition] = position


def _message(partition: int, offset: int, entry: Entry) -> Message:
    """A message as a consumer hands it out."""
    return Message(
        _TOPIC, partition, offset, entry.key, entry.value, timestamp=(TIMESTAMP_CREATE_TIME, entry.timestamp_ms)
    )


def event_message(partition: int, offset: int, code: int) -> Message:
    """What a consumer hands out in place of a message."""
    return Message(_TOPIC, partition, offset, error=KafkaError(code))
