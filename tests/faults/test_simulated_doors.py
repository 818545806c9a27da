"""The simulation's doors hold to what the real ones do: one catalog beside SQLite's, one broker beside Kafka's."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from own_feeds import eventually
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from simulated_broker import Entry, Fate, SimulatedBroker, SimulatedReader, SimulatedTopics
from simulated_catalog import SimulatedCatalog
from simulated_turns import Turns
from simulated_weather import Weather

from k2_cli.stack.kafka_process import LocalKafka
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.kafka.topic_reader import OffsetsGone, TopicReader
from k2_resources.kafka.topics import KafkaTopics

ROWS = pa.table({"writer": ["one"]})


@pytest.fixture(params=["sqlite", "simulated"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    if request.param == "sqlite":
        return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")
    turns = Turns(Random(0))
    return SimulatedCatalog(turns, Weather(turns.random, {}))


def test_a_table_that_nobody_created_is_not_there(catalog: Catalog) -> None:
    with pytest.raises(NoSuchTableError):
        catalog.load_table("feed.raw_trades")


def test_a_commit_on_a_table_that_has_changed_since_is_refused_and_changes_nothing(catalog: Catalog) -> None:
    stale, table = (
        ensure_table(catalog, "feed", "raw_trades", tables_of(KINDS)["raw_trades"]),
        catalog.load_table("feed.raw_trades"),
    )
    empty = table.schema().as_arrow().empty_table()
    table.append(empty)
    with pytest.raises(CommitFailedException):
        stale.append(empty)
    assert catalog.load_table("feed.raw_trades").metadata == table.metadata


def test_properties_alone_are_refused_on_a_table_that_has_changed_since(catalog: Catalog) -> None:
    stale, table = (
        ensure_table(catalog, "feed", "raw_trades", tables_of(KINDS)["raw_trades"]),
        catalog.load_table("feed.raw_trades"),
    )
    table.transaction().set_properties({"note": "first"}).commit_transaction()
    with pytest.raises(CommitFailedException):
        stale.transaction().set_properties({"note": "second"}).commit_transaction()
    assert catalog.load_table("feed.raw_trades").properties["note"] == "first"


def test_rows_are_refused_on_a_table_whose_properties_have_changed_since(catalog: Catalog) -> None:
    stale, table = (
        ensure_table(catalog, "feed", "raw_trades", tables_of(KINDS)["raw_trades"]),
        catalog.load_table("feed.raw_trades"),
    )
    table.transaction().set_properties({"note": "first"}).commit_transaction()
    with pytest.raises(CommitFailedException):
        stale.append(table.schema().as_arrow().empty_table())
    assert catalog.load_table("feed.raw_trades").metadata.snapshots == []


def test_a_table_is_created_once(catalog: Catalog) -> None:
    catalog.create_namespace_if_not_exists("feed")
    both = [catalog.create_table_transaction("feed.notes", ROWS.schema) for _ in range(2)]
    both[0].commit_transaction()
    with pytest.raises((TableAlreadyExistsError, CommitFailedException)):
        both[1].commit_transaction()


class Door(Protocol):
    """A topic of one partition behind a real broker or a simulated one."""

    def topics(self) -> KafkaTopics: ...
    def reader(self) -> TopicReader: ...
    def produce(self, *values: bytes) -> None: ...
    def produce_within_transaction(self, commit: bool, *values: bytes) -> None: ...
    def leave_open(self, *values: bytes) -> None: ...
    def remove_before(self, offset: int) -> None: ...
    def add_partition(self) -> None: ...


class RealDoor:
    def __init__(self, bootstrap_servers: str) -> None:
        self.servers, self.name = bootstrap_servers, f"doors-{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        self.admin.create_topics([NewTopic(self.name, 1, 1)])[self.name].result(30)

    def topics(self) -> KafkaTopics:
        return KafkaTopics(self.servers)

    def reader(self) -> TopicReader:
        return TopicReader(self.servers, self.name, "doors")

    def produce(self, *values: bytes) -> None:
        self._send(Producer({"bootstrap.servers": self.servers}), values)

    def produce_within_transaction(self, commit: bool, *values: bytes) -> None:
        producer = self._begun(values)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)

    def leave_open(self, *values: bytes) -> None:
        self.left_open = self._begun(values)

    def remove_before(self, offset: int) -> None:
        for future in self.admin.delete_records([TopicPartition(self.name, 0, offset)]).values():
            future.result(30)

    def add_partition(self) -> None:
        count = len(self.admin.list_topics(self.name, 30).topics[self.name].partitions)
        self.admin.create_partitions([NewPartitions(self.name, count + 1)])[self.name].result(30)

    def _begun(self, values: Sequence[bytes]) -> Producer:
        settings = {"bootstrap.servers": self.servers, "transactional.id": uuid.uuid4().hex}
        producer = Producer({**settings, "transaction.timeout.ms": 60_000})
        producer.init_transactions(30)
        producer.begin_transaction()
        self._send(producer, values)
        return producer

    def _send(self, producer: Producer, values: Sequence[bytes]) -> None:
        for value in values:
            producer.produce(self.name, value, b"k", partition=0, timestamp=1_000)
        assert producer.flush(30) == 0


class SimulatedDoor:
    def __init__(self) -> None:
        turns = Turns(Random(0))
        self.broker = SimulatedBroker("doors", turns.random, turns)
        self.broker.create(1)
        self.name = "doors"

    def topics(self) -> KafkaTopics:
        return SimulatedTopics(self.broker)

    def reader(self) -> TopicReader:
        return SimulatedReader(self.broker)

    def produce(self, *values: bytes) -> None:
        for value in values:
            self.broker.produce(0, _entry(value))

    def produce_within_transaction(self, commit: bool, *values: bytes) -> None:
        self.leave_open(*values)
        self.broker.end(self.broker.open[-1], Fate.COMMITTED if commit else Fate.ABORTED)

    def leave_open(self, *values: bytes) -> None:
        transaction = self.broker.begin()
        for value in values:
            self.broker.produce_within(transaction, 0, _entry(value))

    def remove_before(self, offset: int) -> None:
        self.broker.retain_from(0, offset)

    def add_partition(self) -> None:
        self.broker.add_partitions(1)


def _entry(value: bytes) -> Entry:
    return Entry(Fate.COMMITTED, value, b"k", 1_000)


@pytest.fixture(params=["kafka", "simulated"])
def door(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "kafka":
        kafka: LocalKafka = request.getfixturevalue("kafka")
        yield RealDoor(kafka.bootstrap_servers)
    else:
        yield SimulatedDoor()


def state(door: Any) -> TopicState:
    found = door.topics().state(door.name)
    assert found is not None
    return found


def comes_to(door: Any, *bounds: tuple[int, int, int]) -> None:
    """Wait for the logs' bounds: a real broker writes a transaction's marker after it has answered."""

    def found() -> list[tuple[int, int, int]]:
        return [(each.low, each.stable_end, each.high) for each in state(door).partitions]

    eventually(lambda: found() == list(bounds), f"logs with the bounds {bounds}")


def read(door: Any, start: int, end: int) -> tuple[list[tuple[int, bytes | None]], list[tuple[int, int]]]:
    """The messages and the spans covered."""
    topic_id = state(door).topic_id
    batches = list(door.reader().read(RangeSet.of([OffsetRange(topic_id, 0, start, end)])))
    messages = [m for b in batches for m in zip(b.messages.offsets, b.messages.values, strict=True)]
    covered = RangeSet.of(each for batch in batches for each in batch.covered)
    return messages, [(each.start, each.end) for each in covered]


def test_messages_are_read_as_they_stand_and_what_was_asked_for_is_covered(door: Any) -> None:
    door.produce(b"a", b"b", b"c", b"d")
    comes_to(door, (0, 4, 4))
    assert read(door, 1, 3) == ([(1, b"b"), (2, b"c")], [(1, 3)])


def test_transactions_leave_markers_and_aborted_ones_holes_that_are_covered(door: Any) -> None:
    door.produce(b"a")
    door.produce_within_transaction(False, b"x", b"y")
    door.produce_within_transaction(True, b"b")
    comes_to(door, (0, 6, 6))
    assert read(door, 0, 6) == ([(0, b"a"), (4, b"b")], [(0, 6)])
    assert read(door, 1, 4) == ([], [(1, 4)])


def test_an_open_transaction_holds_back_what_comes_after_it(door: Any) -> None:
    door.produce(b"a")
    door.leave_open(b"x")
    door.produce(b"b")
    comes_to(door, (0, 1, 3))
    assert read(door, 0, 1) == ([(0, b"a")], [(0, 1)])


@pytest.mark.parametrize("span", [(0, 4), (3, 9)])
def test_offsets_that_were_removed_or_are_not_there_yet_are_refused(door: Any, span: tuple[int, int]) -> None:
    door.produce(b"a", b"b", b"c", b"d")
    door.remove_before(2)
    comes_to(door, (2, 4, 4))
    with pytest.raises(OffsetsGone):
        read(door, *span)


def test_a_partition_more_is_empty(door: Any) -> None:
    door.produce(b"a")
    door.add_partition()
    comes_to(door, (0, 1, 1), (0, 0, 0))
