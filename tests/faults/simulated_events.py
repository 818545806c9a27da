"""What happens around K2's processes in a schedule: producers, the broker's own faults, doors that break, operators."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any
from unittest.mock import patch

import dagster as dg
from simulated_broker import Fate, SimulatedBroker, SimulatedLog
from simulated_catalog import SimulatedCatalog
from simulated_dagster import SimulatedDagster
from simulated_ingest import JOB, RAW_TRADES, SimulatedIngest
from simulated_messages import EPOCH, FEED, Message, harmful, poison, trades
from simulated_turns import Process, Turns
from simulated_weather import Weather

from k2_assets.names import ingest_op_name
from k2_market.kinds.trades import TRADES

_MOST_TOPICS = 3
_MOST_PROCESSES = 4


class SimulatedEvents:
    """Things that happen to the doors of a ``SimulatedIngest``; each says whether it could happen, and tells it.

    Attributes:
        sent: The message behind each entry that was produced, by ``id``.
        left: How many messages are still to be produced.
        kinds: Those that are faults, by their names.
    """

    def __init__(self, ingest: SimulatedIngest) -> None:
        self._ingest = ingest
        self._turns: Turns = ingest.turns
        self._random: Random = ingest.turns.random
        self._broker: SimulatedBroker = ingest.broker
        self._catalog: SimulatedCatalog = ingest.catalog
        self._dagster: SimulatedDagster = ingest.dagster
        self._cut: set[int] = set()
        self._topics = 1
        self._tags = 0
        self._drops = 0
        self._swept = 0.0
        self.sent: dict[int, Message] = {}
        self.left = self._random.randint(5, 60)
        self.kinds: Mapping[str, Callable[[], bool]] = {
            "two daemons": self.start_second_daemon,
            "two writers on one range": self.force_onto_one_range,
            "request delivered twice": self.deliver_twice,
            "run told what is not so": self.tell_a_run_anything,
            "catalog down": self.break_catalog,
            "table rolled back": self.roll_back,
            "table dropped": self.drop_table,
            "broker down": self.break_broker,
            "registry down": self.break_registry,
            "aborted transaction": lambda: self.write_within_transaction(Fate.ABORTED),
            "transaction left open": lambda: self.write_within_transaction(Fate.OPEN),
            "retention": self.remove_by_retention,
            "topic recreated": self._recreate_seldom,
            "partitions added": self.add_partition,
            "log truncated": self.truncate,
            "poison message": lambda: self.produce(1, poisoned=True),
            "harmful message": self.produce_harm,
        }

    def produce(self, count: int, *, poisoned: bool = False) -> bool:
        """Messages are acknowledged, by partitions at random."""
        partitions = self._writable()
        if count <= 0 or not partitions:
            return False
        self.left -= count
        for _ in range(count):
            message = self._random.choice(poison()) if poisoned else self._next_trade()
            self._produce_to(self._random.choice(partitions), message)
        return self._tell(f"takes {count} {'poisoned ' if poisoned else ''}messages")

    def produce_harm(self) -> bool:
        """A message is acknowledged that fails, hangs or kills whatever has to do with it."""
        partitions = self._writable()
        if not partitions:
            return False
        message = self._random.choice(harmful())
        self._produce_to(self._random.choice(partitions), message)
        assert message.harm is not None
        return self._tell(f"takes a message that {message.harm.value}")

    def write_within_transaction(self, fate: Fate) -> bool:
        """A producer writes in a transaction, and ends it or leaves it open."""
        partitions = self._writable()
        if not partitions:
            return False
        transaction = self._broker.begin()
        for _ in range(self._random.randint(1, 5)):
            message = self._next_trade()
            entry = message.entry()
            self.sent[id(entry)] = message
            self._broker.produce_within(transaction, self._random.choice(partitions), entry)
        if fate is not Fate.OPEN:
            self._broker.end(transaction, fate)
        return self._tell(f"has a transaction that is {fate.name.lower()}")

    def end_transactions(self, chance: float) -> None:
        """Open transactions are committed or aborted."""
        for transaction in list(self._broker.open):
            if self._random.random() < chance:
                fate = self._random.choice((Fate.ABORTED, Fate.COMMITTED))
                self._broker.end(transaction, fate)
                self._tell(f"has an open transaction that is {fate.name.lower()}")

    def remove_by_retention(self) -> bool:
        """A partition loses its oldest messages."""
        partition, log = self._any_log()
        self._broker.retain_from(partition, self._random.randint(log.low, log.stable_end))
        return self._tell("removes old messages")

    def recreate(self) -> bool:
        """The topic is deleted and created anew, with other messages at the same offsets."""
        self._cut = set()
        self._broker.create(self._random.randint(1, 3))
        self._tell("has the topic anew")
        self.produce(self._random.randint(0, 30))
        return True

    def add_partition(self) -> bool:
        """The topic gets a partition more."""
        self._broker.add_partitions(1)
        return self._tell("has a partition more")

    def truncate(self) -> bool:
        """A partition loses its newest messages, though they were acknowledged; it takes no more of them."""
        partition, log = self._any_log()
        if self._broker.open or log.high == log.low:
            return False
        self._cut.add(partition)
        self._broker.truncate(partition, self._random.randrange(log.low, log.high))
        return self._tell("loses the end of a log")

    def grow_again(self) -> bool:
        """Logs that lost their end take messages again, at offsets that meant others; whether there are such logs."""
        cut, self._cut = self._cut, set()
        for partition in cut:
            self._produce_to(partition, self._next_trade())
        return bool(cut) and self._tell("takes messages where it had lost some")

    def break_broker(self) -> bool:
        """No client gets an answer for a while."""
        self._broker.down_until = self._turns.now + self._random.choice((5.0, 40.0, 90.0))
        return self._tell(f"is down until {self._broker.down_until:.2f}")

    def break_catalog(self) -> bool:
        """No one can load a table or commit for a while."""
        self._catalog.down_until = self._turns.now + self._random.choice((5.0, 50.0, 100.0))
        self._turns.tell("catalog", f"is down until {self._catalog.down_until:.2f}")
        return True

    def break_registry(self) -> bool:
        """No one can ask for schemas for a while."""
        self._ingest.registry_down_until = self._turns.now + self._random.choice((5.0, 60.0))
        self._turns.tell("registry", f"is down until {self._ingest.registry_down_until:.2f}")
        return True

    def repair_doors(self) -> None:
        """Whatever was down is up again."""
        self._broker.down_until = self._catalog.down_until = self._ingest.registry_down_until = 0.0

    def start_second_daemon(self) -> bool:
        """Another daemon looks and requests beside the one that is there."""
        if sum(sensor.alive for sensor in self._ingest.sensors) > 1:
            return False
        self._ingest.start_sensor()
        return True

    def force_onto_one_range(self) -> bool:
        """Someone starts a run by hand, of a day or as a copy of another one; it starts at once."""
        if self._is_busy():
            return False
        if self._dagster.runs and self._random.random() < 0.6:
            twin = self._random.choice(self._dagster.runs)
            run = self._dagster.add(JOB, twin.run_config, twin.partition, {})
        else:
            run = self._ingest.request_day(EPOCH.date() - timedelta(days=self._random.randint(0, 2)))
        self._ingest.start_run(run)
        return True

    def tell_a_run_anything(self) -> bool:
        """Someone starts a run that is told of its topic whatever comes to mind: some of it may be so."""
        if self._is_busy() or self._broker.topic is None:
            return False
        config: dict[str, Any] = {"topic_id": self._broker.topic.topic_id, "ranges": {}, "lost": {}, "truncated": {}}
        for key in self._random.sample(("ranges", "lost", "truncated"), self._random.randint(1, 3)):
            partition = self._random.randrange(len(self._broker.topic.logs) + 1)
            log = self._broker.log_of(partition)
            start = self._random.randrange((0 if log is None else log.high) + 5)
            config[key] = {str(partition): [[start, start + self._random.randint(1, 10)]]}
        if self._random.random() < 0.3:
            config["handling"] = self._random.choice(["keep bytes", "skip", "drop"])
        ops = {ingest_op_name(FEED.name, TRADES): {"config": config}}
        run = self._dagster.add(JOB, {"ops": ops}, EPOCH.date().isoformat(), {})
        self._turns.tell("stranger", f"starts {run.run_id}, told {config}")
        self._ingest.start_run(run)
        return True

    def deliver_twice(self) -> bool:
        """A run gets a second process."""
        if self._is_busy() or not self._ingest.running:
            return False
        self._ingest.start_run(self._random.choice(list(self._ingest.running.values())))
        return True

    def land_late(self, chance: float) -> None:
        """A commit arrives whose writer was told that it had failed."""
        if self._catalog.in_flight and self._random.random() < chance:
            self._catalog.land_one()

    def tag(self) -> None:
        """An operator tags the table's current snapshot: a commit that no run knows of."""
        table = self._catalog.table(RAW_TRADES)
        snapshot = None if table is None else table.current_snapshot()
        if table is None or snapshot is None:
            return
        self._tags += 1
        with self._calm():
            table.manage_snapshots().create_tag(snapshot.snapshot_id, f"tag-{self._tags}").commit()
        self._turns.tell("operator", f"tags snapshot {snapshot.snapshot_id}")

    def roll_back(self) -> bool:
        """An operator sets the table back to an older snapshot."""
        table = self._catalog.table(RAW_TRADES)
        current = None if table is None else table.current_snapshot()
        if table is None or current is None or current.parent_snapshot_id is None:
            return False
        with self._calm():
            table.manage_snapshots().rollback_to_snapshot(current.parent_snapshot_id).commit()
        self._turns.tell("operator", f"rolls the table back from snapshot {current.snapshot_id}")
        return True

    def roll_forward(self, chance: float) -> None:
        """An operator sets the table to its newest snapshot again."""
        table = self._catalog.table(RAW_TRADES)
        if table is None or not table.metadata.snapshots or self._random.random() >= chance:
            return
        newest = max(table.metadata.snapshots, key=lambda each: each.sequence_number or 0)
        if newest.snapshot_id != table.metadata.current_snapshot_id:
            with self._calm():
                table.manage_snapshots().set_current_snapshot(newest.snapshot_id).commit()
            self._turns.tell("operator", f"rolls the table forward to snapshot {newest.snapshot_id}")

    def drop_table(self) -> bool:
        """An operator drops the table, to have it read anew."""
        if self._catalog.table(RAW_TRADES) is None or self._drops:
            return False
        self._drops += 1
        self._catalog.drop_table(RAW_TRADES)
        self._turns.tell("operator", "drops the table")
        return True

    def pause(self, process: Process) -> None:
        """A run's process is stopped; the daemon may take it for dead."""
        process.paused = True
        self._turns.tell(process.name, f"is stopped before it {process.next_step}")
        if self._random.random() < 0.7:
            self._dagster.end(self._ingest.running[process], dg.DagsterRunStatus.FAILURE)
            self._turns.tell("daemon", f"takes {process.name} for dead")

    def wake_zombies(self, chance: float) -> None:
        """Processes that were stopped go on, whatever has happened since."""
        for process in self._turns.processes:
            if process.paused and process.alive and self._random.random() < chance:
                process.paused = False
                self._turns.tell(process.name, "goes on")

    def sweep(self) -> None:
        """Every half a minute runs whose processes are gone are ended, and the sensor is started if it is not there."""
        if self._turns.now < self._swept + 30:
            return
        self._swept = self._turns.now
        alive = {id(run) for process, run in self._ingest.running.items() if process.alive}
        for run in self._dagster.runs:
            if run.status is dg.DagsterRunStatus.STARTED and id(run) not in alive:
                self._dagster.end(run, dg.DagsterRunStatus.FAILURE)
                self._turns.tell("daemon", f"ends {run.run_id}, whose process is gone")
        if not any(sensor.alive for sensor in self._ingest.sensors):
            self._ingest.start_sensor()

    @contextmanager
    def _calm(self) -> Iterator[None]:
        """No fault comes to what an operator does."""
        calm = Weather(self._random, {})
        with patch.object(self._catalog, "weather", calm), patch.object(self._catalog, "down_until", 0.0):
            yield

    def _recreate_seldom(self) -> bool:
        self._topics += 1
        return self._topics <= _MOST_TOPICS and self.recreate()

    def _produce_to(self, partition: int, message: Message) -> None:
        entry = message.entry()
        self.sent[id(entry)] = message
        self._broker.produce(partition, entry)

    def _next_trade(self) -> Message:
        return trades()[len(self.sent) % len(trades())]

    def _is_busy(self) -> bool:
        return sum(process.alive for process in self._ingest.running) > _MOST_PROCESSES

    def _writable(self) -> list[int]:
        """A log that was cut stays as it is, so that the cut can be seen."""
        assert self._broker.topic is not None
        return [number for number in range(len(self._broker.topic.logs)) if number not in self._cut]

    def _any_log(self) -> tuple[int, SimulatedLog]:
        assert self._broker.topic is not None
        partition = self._random.randrange(len(self._broker.topic.logs))
        return partition, self._broker.topic.logs[partition]

    def _tell(self, what: str) -> bool:
        assert self._broker.topic is not None
        logs = " ".join(f"[{log.low},{log.stable_end},{log.high}]" for log in self._broker.topic.logs)
        self._turns.tell("broker", f"{what}; {self._broker.topic.topic_id[:4]} has {logs}")
        return True
