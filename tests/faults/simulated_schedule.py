"""One seed's schedule: who takes a turn and which faults come; then calm, and a look at what came of it."""

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from random import Random
from traceback import format_exception
from unittest.mock import patch

import dagster as dg
from pyiceberg.exceptions import NoSuchTableError
from simulated_broker import POLL, SimulatedBroker, SimulatedReader
from simulated_catalog import SWAP, SimulatedCatalog
from simulated_checker import problems, unreported_days
from simulated_dagster import UNDER_WAY, SimulatedDagster
from simulated_events import SimulatedEvents
from simulated_ingest import SimulatedIngest
from simulated_messages import EPOCH, FEED
from simulated_surroundings import simulated_surroundings
from simulated_turns import Turns
from simulated_weather import FAULTS, Weather

from k2_market.errors import K2Error, LedgerError
from k2_market.plans import ingest_plan
from k2_resources.iceberg import catalog as iceberg_catalog
from k2_resources.iceberg import snapshot_expiry
from k2_resources.kafka import message_gathering
from k2_resources.raw.view import TableRolledBack
from k2_sensors import kafka_sensor

MOST_LOOKS = 240
"""So many looks of the sensor after the last fault, and nothing must be left to do: an hour, as the daemon looks."""

MOST_LOOKS_FOR_ONE = 240
"""As many more for each message that fails, hangs or kills its runs: it is found by halves."""

_CHANCES = {
    "writer killed": 0.03,
    "daemon killed": 0.02,
    "zombie writer": 0.4,
    "another committer in between": 0.4,
    "commit landed, answer lost": 0.3,
    "error before the commit": 0.3,
    "commit landed late": 0.3,
    "requests out of order": 0.9,
    "topic recreated": 0.2,
    "retention": 0.1,
    "log truncated": 0.1,
}
"""Chances of faults at each step where they can come."""

_WHILE_READING = ("topic recreated", "retention", "log truncated")
"""Faults that come right before a run polls, too."""

_OUTSIDE_CHANCE = 0.04
"""Chance at each move of a fault that comes from outside the processes."""

_MOST_FAULTS = 9
_PROCESSES_AT_ONCE = 3
_TABLES_THERE = 0.85
"""Share of schedules that begin with an empty table; in the others the first run creates it."""


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule.

    Attributes:
        seed: Its number.
        produced: Messages that the broker acknowledged.
        commits: Commits that landed.
        faults: How often each fault came.
        problems: What is wrong; nothing, if all is well.
        story: What was done, in order.
    """

    seed: int
    produced: int
    commits: int
    faults: Counter[str]
    problems: tuple[str, ...]
    story: tuple[str, ...]

    def without_story(self) -> "Outcome":
        """Itself, without what nobody will read."""
        return self if self.problems else replace(self, story=())

    def told(self) -> str:
        """The story and what is wrong, for a person."""
        return "\n".join([f"schedule {self.seed}:", *self.story, "", *(self.problems or ("nothing is wrong",))])


def outcomes(seeds: Sequence[int], processes: int) -> list[Outcome]:
    """What comes of some schedules, run by this process and by others beside it."""
    shares = [seeds[number::processes] for number in range(1, processes)]
    command = [sys.executable, __file__]
    others = [subprocess.Popen([*command, *map(str, share)], stdout=subprocess.PIPE) for share in shares]
    try:
        found = [Schedule(seed).run().without_story() for seed in seeds[::processes]]
        for other in others:
            told, _ = other.communicate()
            assert other.returncode == 0, f"a process that runs schedules ended with {other.returncode}"
            found += pickle.loads(told)
    finally:
        for other in others:
            other.kill()
    return found


class Schedule:
    """A schedule, made of its seed and of the faults that are certain to be among those it has."""

    def __init__(
        self,
        seed: int,
        reader: Callable[[SimulatedBroker], SimulatedReader] = SimulatedReader,
        *,
        certain: Sequence[str] = (),
        real_files: bool = False,
    ) -> None:
        self.seed = seed
        self.random = Random(f"K2 {seed}")
        self.turns = Turns(self.random)
        armed = self.random.sample(sorted(FAULTS), self.random.randint(1, _MOST_FAULTS))
        armed += [fault for fault in certain if fault not in armed]
        self.weather = Weather(self.random, {fault: _CHANCES.get(fault, 1.0) for fault in armed})
        self.broker = SimulatedBroker(FEED.topics.trades, self.random, self.turns)
        self.catalog = SimulatedCatalog(self.turns, self.weather)
        self.dagster = SimulatedDagster(self.turns, EPOCH.timestamp())
        self.ingest = SimulatedIngest(self.turns, self.broker, self.catalog, self.dagster, reader)
        self.events = SimulatedEvents(self.ingest)
        self._real_files = real_files
        self._kept = self.random.choice((3, iceberg_catalog.KEPT_SNAPSHOTS))

    def run(self) -> Outcome:
        """Carry it out and see what came of it."""
        found: list[str] = []
        with (
            simulated_surroundings(self.turns, EPOCH.timestamp(), real_files=self._real_files),
            self._small_sizes(),
            self.ingest.harmed_by_messages(),
        ):
            try:
                self._begin()
                for _ in range(self.random.randint(40, 180)):
                    self._move()
                self._calm_down()
                self._come_to_rest()
            except Exception as error:
                found.append("".join(format_exception(error)))
            finally:
                self.turns.end()
            found += self._wrong_ends()
            found += problems(self.broker, self.events.sent, self.catalog.files, self.catalog.committed)
            found += self._unreported_days()
        return Outcome(
            seed=self.seed,
            produced=len(self.events.sent),
            commits=len(self.catalog.committed),
            faults=self.weather.came,
            problems=tuple(found),
            story=tuple(self.turns.story),
        )

    @contextmanager
    def _small_sizes(self) -> Iterator[None]:
        """K2's own limits, made so small that a schedule comes to them."""
        most_per_run = self.random.choice((8, 30, 1000))
        merged = {"commit.manifest.min-count-to-merge": self.random.choice(("3", "20"))}
        with ExitStack() as stack:
            for module in (ingest_plan, kafka_sensor):
                stack.enter_context(patch.object(module, "MAX_MESSAGES_PER_RUN", most_per_run))
            stack.enter_context(patch.object(message_gathering, "MESSAGES_PER_BATCH", self.random.choice((5, 20, 200))))
            stack.enter_context(patch.object(snapshot_expiry, "KEPT_SNAPSHOTS", self._kept))
            stack.enter_context(patch.dict(iceberg_catalog._PROPERTIES, merged))
            yield

    def _begin(self) -> None:
        self.broker.create(self.random.randint(1, 3))
        self.events.produce(self.random.randint(0, 25))
        if self.random.random() < _TABLES_THERE:
            self.ingest.create_table()
        self.ingest.start_sensor()

    def _move(self) -> None:
        """Something happens: outside the processes, or in one of them, or both."""
        self.turns.now += self.random.choice((0.0, 0.01, 0.1, 1.0))
        outside = sorted(self.events.kinds.keys() & self.weather.odds.keys())
        if outside and self.random.random() < _OUTSIDE_CHANCE:
            self._let_come(self.random.choice(outside))
        if self.random.random() < 0.1:
            self.events.produce(min(self.events.left, self.random.randint(1, 12)))
        self.events.end_transactions(0.05)
        self.events.land_late(0.05)
        self.events.roll_forward(0.03)
        self.events.wake_zombies(0.03)
        self.events.sweep()
        self._start_what_waits()
        self._give_a_turn()

    def _let_come(self, fault: str) -> None:
        if self.events.kinds[fault]():
            self.weather.bring(fault)

    def _give_a_turn(self) -> None:
        ready = self.turns.ready()
        if not ready:
            self.turns.pass_time()
            return
        process = self.random.choice(ready)
        is_run = process in self.ingest.running
        if self.weather.brings("writer killed" if is_run else "daemon killed"):
            self.turns.kill(process)
            return
        if is_run and process.next_step == POLL:
            for fault in _WHILE_READING:
                if self.random.random() < self.weather.odds.get(fault, 0.0):
                    self._let_come(fault)
        if is_run and process.next_step == SWAP:
            if self.weather.brings("another committer in between"):
                self.events.tag()
            if self.weather.brings("zombie writer"):
                self.events.pause(process)
                return
        self.turns.give(process)

    def _start_what_waits(self) -> None:
        waiting = [run for run in self.dagster.runs if run.status is dg.DagsterRunStatus.NOT_STARTED]
        running = sum(process.alive and not process.paused for process in self.ingest.running)
        if not waiting or running >= _PROCESSES_AT_ONCE or self.random.random() < 0.5:
            return
        if len(waiting) > 1 and self.weather.brings("requests out of order"):
            self.ingest.start_run(waiting[-1])
        elif self.random.random() < 0.1 or "requests out of order" not in self.weather.odds:
            self.ingest.start_run(waiting[0])

    def _calm_down(self) -> None:
        self.turns.tell("all", "no more faults")
        self.weather.calm_down()
        self.events.repair_doors()
        self.events.end_transactions(1.0)

    def _come_to_rest(self) -> None:
        """Go on until nothing is left to do; a topic that was halted is created anew, as K2 asks for."""
        looks = MOST_LOOKS + MOST_LOOKS_FOR_ONE * self.weather.came["harmful message"]
        until = self.turns.now + looks * kafka_sensor.INTERVAL_SECONDS
        while not self._is_at_rest():
            if self.turns.now > until:
                raise AssertionError(f"not quiet after {looks} looks: {self.ingest.waits[0]}")
            self.turns.now += 0.01
            self.events.land_late(0.1)
            self.events.roll_forward(0.1)
            self.events.wake_zombies(0.1)
            self.events.sweep()
            self._start_what_waits()
            self._give_a_turn()

    def _is_at_rest(self) -> bool:
        quiet = self._is_quiet()
        if quiet and self.ingest.waits[0].startswith("halted"):
            return not (self.events.grow_again() or self.events.recreate())
        return quiet

    def _is_quiet(self) -> bool:
        reason, seen = self.ingest.waits
        return (
            seen == self.ingest.changes
            and reason.startswith(("nothing pending", "halted"))
            and not self.catalog.in_flight
            and not any(process.alive for process in self.ingest.running)
            and not any(run.status in UNDER_WAY for run in self.dagster.runs)
        )

    def _unreported_days(self) -> Iterator[str]:
        """Find the days with new rows that Dagster was not told of."""
        yield from unreported_days(self.catalog.committed, self.dagster.reported)

    def _wrong_ends(self) -> Iterator[str]:
        """What runs failed by, and the sensor, that no fault explains."""
        for who, error in self.ingest.ends:
            if isinstance(error, TableRolledBack) and self.weather.came["table rolled back"]:
                continue
            if isinstance(error, NoSuchTableError) and self.weather.came["table dropped"]:
                continue
            if type(error) is RuntimeError and self.weather.came["harmful message"]:
                continue
            if not isinstance(error, K2Error) or isinstance(error, LedgerError):
                yield f"{who} failed by {''.join(format_exception(error))}"


if __name__ == "__main__":
    # By its own name, so that what is pickled here is known there.
    import simulated_schedule

    share = [simulated_schedule.Schedule(int(seed)).run().without_story() for seed in sys.argv[1:]]
    sys.stdout.buffer.write(pickle.dumps(share))
