"""A scene for a test that tells its own story, step by step: simulated doors in calm weather, and a look at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from simulated_broker import SimulatedBroker
from simulated_catalog import SimulatedCatalog
from simulated_checker import Account, data_files, problems
from simulated_dagster import Run, SimulatedDagster
from simulated_ingest import SimulatedIngest
from simulated_messages import EPOCH, FEED, Message, trades
from simulated_surroundings import simulated_surroundings
from simulated_turns import Process, Turns
from simulated_weather import Weather


class SimulatedScene:
    """Doors and processes, moved by hand."""

    def __init__(self, partitions: int = 1) -> None:
        self.turns = Turns(Random(0))
        self.weather = Weather(self.turns.random, {})
        self.broker = SimulatedBroker(FEED.topics.trades, self.turns.random, self.turns)
        self.catalog = SimulatedCatalog(self.turns, self.weather)
        self.dagster = SimulatedDagster(self.turns, EPOCH.timestamp())
        self.ingest = SimulatedIngest(self.turns, self.broker, self.catalog, self.dagster)
        self.sent: dict[int, Message] = {}
        self.broker.create(partitions)

    def produce(self, count: int, partition: int = 0) -> None:
        """Good messages are acknowledged."""
        for _ in range(count):
            self.send(trades()[len(self.sent)], partition)

    def send(self, message: Message, partition: int = 0) -> None:
        """One message is acknowledged."""
        entry = message.entry()
        self.sent[id(entry)] = message
        self.broker.produce(partition, entry)

    def plan(self) -> Run | None:
        """Let the sensor look; the run that it requested, if any."""
        before = len(self.dagster.runs)
        self.ingest.sense()
        return self.dagster.runs[-1] if len(self.dagster.runs) > before else None

    def planned(self) -> Process:
        """The process of the run that the sensor requests now."""
        run = self.plan()
        assert run is not None, self.ingest.waits[0]
        return self.ingest.start_run(run)

    def catch_up(self) -> int:
        """Carry out what the sensor requests until it requests nothing more; the number of runs."""
        for runs in range(100):
            run = self.plan()
            if run is None:
                return runs
            self.turns.finish(self.ingest.start_run(run))
        raise AssertionError("the sensor requests run after run")

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the raw table, by partition and offset."""
        found = [row for each in data_files(self.catalog.committed[-1], self.catalog.files) for row in each.to_pylist()]
        return sorted(found, key=lambda row: (row["kafka_partition"], row["kafka_offset"]))

    @property
    def account(self) -> Account:
        """The table's ledger."""
        return Account.of(self.catalog.committed[-1])

    def assert_all_well(self) -> None:
        """See that the table has all that was acknowledged, once."""
        assert problems(self.broker, self.sent, self.catalog.files, self.catalog.committed) == []
        failed = [error for _, error in self.ingest.ends]
        assert not failed, failed


@contextmanager
def simulated_scene(partitions: int = 1) -> Iterator[SimulatedScene]:
    """A scene with a topic and an empty table."""
    scene = SimulatedScene(partitions)
    with simulated_surroundings(scene.turns, EPOCH.timestamp()):
        scene.ingest.create_table()
        try:
            yield scene
        finally:
            scene.turns.end()
