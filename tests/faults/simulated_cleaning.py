"""Writers of one table beside the orphan cleaner, on the simulated catalog: one seed's schedule, and what came of it.

Writers and cleaners are stopped at the steps where that does most harm, for much longer than the cleaner waits; they
are killed, overtaken by one another, and left without answers. At its end are the ways of doing it wrong.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from simulated_catalog import SWAP, SimulatedCatalog
from simulated_messages import EPOCH, FEED
from simulated_storage import SimulatedStorage
from simulated_surroundings import InPlace, simulated_surroundings
from simulated_turns import Process, Turns
from simulated_weather import Weather

from k2_market.errors import K2Error
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_market.ledger.ledger import PROPERTY
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.plans.day_builds import BUILDS_PROPERTY, DayBuild, builds_from_json
from k2_market.schemas.tables import RAW_TRADES, TRADES
from k2_resources.iceberg import day_table, snapshot_expiry, table_layout
from k2_resources.iceberg.catalog import ensure_table
from k2_resources.iceberg.day_table import DayTable
from k2_resources.maintenance import orphan_cleaner
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable

FLOOR = timedelta(seconds=2)
"""How long a file rests here: less than a stopped writer sleeps, and less than many writers take."""

DAYS = [EPOCH.date() - timedelta(days=n) for n in range(3)]
_MOVES = 150
_MOST_WRITERS = 4
_CHANCES = {"commit landed, answer lost": 0.1, "error before the commit": 0.05}


@contextmanager
def cleaning_simulated() -> Iterator[None]:
    """Have the cleaner find the simulated warehouse, and take so short a rest."""
    with (
        patch.object(orphan_cleaner, "TableStorage", SimulatedStorage),
        patch.object(orphan_cleaner, "LEAST_FLOOR", FLOOR),
    ):
        yield


def clean(catalog: Catalog, feed: str, name: str) -> tuple[int, int]:
    """Clean a table; how many files were deleted, and how many only marked."""
    try:
        swept = OrphanCleaner(catalog, FLOOR).clean(feed, name)
    except K2Error:
        return 0, 0
    return (0, 0) if swept is None else (len(swept.deletable), len(swept.resting))


class CleanedTable(ABC):
    """A schedule, made of its seed alone.

    Attributes:
        deleted: Files that the cleaner deleted.
        committed: Writers that committed.
        superseded: Days that a build left as they were, since a newer one had been published.
        turns: Who did what, in order.
    """

    name: str

    def __init__(self, seed: int) -> None:
        self.random = Random(f"K2 {self.name} {seed}")
        self.turns = Turns(self.random)
        self.weather = Weather(self.random, {})
        self.catalog = SimulatedCatalog(self.turns, self.weather)
        self.deleted = self.committed = self.superseded = 0
        self._started = 0
        self._writers: list[Process] = []
        self._cleaners: list[Process] = []

    def run(self) -> list[str]:
        """Carry it out; what is wrong with what came of it."""
        with (
            simulated_surroundings(self.turns, EPOCH.timestamp()),
            cleaning_simulated(),
            patch.object(snapshot_expiry, "KEPT_SNAPSHOTS", 3),
            patch.object(day_table, "ThreadPoolExecutor", lambda _: InPlace()),
        ):
            ensure_table(self.catalog, FEED.name, self.name, tables_of(KINDS)[self.name])
            self.weather.odds = dict(_CHANCES)
            try:
                for _ in range(_MOVES):
                    self._move()
                self.weather.calm_down()
                for process in self.turns.processes:
                    process.paused = False
                    self.turns.finish(process)
                for _ in range(4):  # by then all that was left behind has rested, and goes
                    self.turns.now += 2 * FLOOR.total_seconds()
                    self._write()
                    self._clean()
            finally:
                self.turns.end()
            return [*self._missing(), *self.problems()]

    @abstractmethod
    def write(self) -> None:
        """Do what one writer does, to its end."""

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """Say what else is wrong with what came of it."""

    def _move(self) -> None:
        self.turns.now += self.random.choice((0.0, 0.01, 0.1, 1.0))
        if self.random.random() < 0.25:
            self._cleaners.append(self._start("cleaner", self._clean))
        if self.random.random() < 0.15 and sum(each.alive for each in self._writers) < _MOST_WRITERS:
            self._writers.append(self._start("writer", self._write))
        for process in self.turns.processes:
            if process.paused and self.random.random() < 0.04:
                process.paused = False
                self.turns.tell(process.name, "goes on")
        ready = self.turns.ready()
        if not ready:
            self.turns.pass_time()
            return
        process = self.random.choice(ready)
        is_writer = process in self._writers
        if is_writer and self.random.random() < 0.01:
            self.turns.kill(process)
        elif (is_writer and process.next_step == SWAP and self.random.random() < 0.4) or (
            not is_writer and process.next_step.startswith("deletes") and self.random.random() < 0.5
        ):
            process.paused = True
            self.turns.tell(process.name, f"is stopped before it {process.next_step}")
        else:
            self.turns.give(process)

    def _start(self, kind: str, work: Callable[[], None]) -> Process:
        self._started += 1
        return self.turns.start(f"{kind}-{self._started}", work)

    def _clean(self) -> None:
        self.deleted += clean(self.catalog, FEED.name, self.name)[0]

    def _write(self) -> None:
        try:
            self.write()
            self.committed += 1
        except K2Error as error:
            self.turns.tell("writer", f"fails: {error}")

    def _missing(self) -> Iterator[str]:
        """Files of kept snapshots that are not there."""
        for snapshot in self.catalog.committed[-1].snapshots:
            try:
                gone = [path for path in self.paths(snapshot) if path not in self.catalog.files.content]
            except FileNotFoundError as missing:
                gone = [str(missing)]
            yield from (f"{path} is not there" for path in gone)

    def paths(self, snapshot: Snapshot) -> list[str]:
        """The data files of a snapshot.

        Raises:
            FileNotFoundError: A manifest is not there.
        """
        files = self.catalog.files
        entries = [each for manifest in snapshot.manifests(files) for each in manifest.fetch_manifest_entry(files)]
        return [entry.data_file.file_path for entry in entries]

    def content(self, metadata: TableMetadata) -> Iterator[pa.Table]:
        """The rows of a table's files, as far as they have not been cleaned away since."""
        snapshot = metadata.current_snapshot()
        try:
            paths = [] if snapshot is None else self.paths(snapshot)
        except FileNotFoundError:
            return
        for content in (self.catalog.files.content.get(path) for path in paths):
            if content is not None:
                yield content if isinstance(content, pa.Table) else pq.read_table(pa.BufferReader(content))


class CleanedRawTable(CleanedTable):
    """Writers that write the rows of two ranges each, and commit them together."""

    name = "raw_trades"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._next = 0

    def write(self) -> None:
        """Write two deliveries and commit them."""
        table = RawTable(self.catalog, FEED.name, TRADES_KIND)
        table.commit_written([table.write(self._delivery()) for _ in range(2)])

    def problems(self) -> Iterator[str]:
        """Offsets that the ledger has and no row, or the other way round."""
        last = self.catalog.committed[-1]
        rows = sorted(offset for each in self.content(last) for offset in each["kafka_offset"].to_pylist())
        spans = json.loads(last.properties.get(PROPERTY, "{}")).get("topics", {}).get("t", {}).get("partitions", {})
        covered = [offset for start, end in spans.get("0", []) for offset in range(start, end)]
        if rows != covered:
            yield f"rows of the offsets {rows}, the ledger has {covered}"

    def _delivery(self) -> Delivery:
        start, self._next = self._next, self._next + self.random.randint(1, 3)
        rows = [
            {
                "trade_date": self.random.choice(DAYS),
                "kafka_topic_id": "t",
                "kafka_partition": 0,
                "kafka_offset": offset,
                "symbol": "X",
            }
            for offset in range(start, self._next)
        ]
        covered = RangeSet.of([OffsetRange("t", 0, start, self._next)])
        return Delivery(pa.Table.from_pylist(rows, schema=RAW_TRADES), covered, {"t": "topic"}, "run")


class CleanedDayTable(CleanedTable):
    """Builds that read which version their source is of, and publish days that say so."""

    name = "trades"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._source = 0

    def write(self) -> None:
        """Build one or two days."""
        self._source += 1
        days = self.random.sample(DAYS, self.random.randint(1, 2))
        table = DayTable(self.catalog, FEED.name, self.name)
        version = self._source
        self.turns.step("has read its source")
        with table.stager(days) as stager, ExitStack() as stack:
            staged = [stack.enter_context(stager.stage(day)) for day in days]
            for each in staged:
                each.add(one_trade(each.day, version))
            made_from = {day: DayBuild(version, "rules") for day in days}
            published = table.publish(staged, "run", made_from)
        self.superseded += sum(each.superseded for each in published.values())

    def problems(self) -> Iterator[str]:
        """Days whose version became older, commit after commit, or whose rows are of another than is recorded."""
        newest: dict[date, int] = {}
        for number, metadata in enumerate(self.catalog.committed):
            recorded = builds_from_json(metadata.properties.get(BUILDS_PROPERTY, "{}"))
            for day, build in recorded.items():
                if build.version < newest.get(day, 0):
                    yield f"{day} was of version {newest[day]} and of {build.version} after commit {number}"
                newest[day] = max(build.version, newest.get(day, 0))
            for day, version in self._rows(metadata):
                if day not in recorded or version != recorded[day].version:
                    yield f"after commit {number} {day} has rows of version {version}, on record is {recorded.get(day)}"

    def _rows(self, metadata: TableMetadata) -> Iterator[tuple[date, int]]:
        """Days and versions of a table's rows, as far as their files have not been cleaned away since."""
        for each in self.content(metadata):
            yield from zip(each["trade_date"].to_pylist(), each["sequence_number"].to_pylist(), strict=True)


def one_trade(day: date, version: int = 1) -> pa.Table:
    """A row of ``trades`` that says which version of its day it is of."""
    row: dict[str, Any] = {
        "trade_date": day,
        "symbol": "X",
        "exchange_timestamp": EPOCH,
        "trade_id": f"{version}",
        "sequence_number": version,
        "price": Decimal(1),
        "quantity": Decimal(1),
        "side": "BUY",
        "conditions": [],
        "currency": "USD",
        "price_eligible": True,
        "volume_eligible": True,
        "corrected": False,
        "kafka_topic_id": "t",
        "kafka_partition": 0,
        "kafka_offset": version,
    }
    return pa.Table.from_pylist([{name: row.get(name) for name in TRADES.names}], schema=TRADES)


@contextmanager
def deleted_unannounced() -> Iterator[None]:
    """The fault that files are deleted without a commit before."""
    with patch.object(orphan_cleaner, "_is_announced", lambda _: True):
        yield


@contextmanager
def announcements_unread() -> Iterator[None]:
    """The fault that a writer does not see that files were cleaned away since it wrote its own."""
    with patch.object(table_layout, "cleanings_of", lambda _: 0):
        yield


@contextmanager
def files_not_looked_up() -> Iterator[None]:
    """The fault that nobody looks whether files are there before they are committed, nor that any were cleaned away."""
    with ExitStack() as stack:
        for module in ("iceberg.table_transaction", "raw.delivery", "iceberg.staged_day"):
            stack.enter_context(patch(f"k2_resources.{module}.require_whole", lambda *_: None))
        stack.enter_context(announcements_unread())
        yield


@contextmanager
def property_commits_unguarded() -> Iterator[None]:
    """The fault that a commit of properties alone, as pyiceberg makes it, refuses no other commit."""
    with patch("k2_resources.iceberg.owned_catalog.require_unchanged", lambda *_: None):
        yield


@contextmanager
def last_writer_wins() -> Iterator[None]:
    """The fault that a build publishes over what another has published since it began."""
    with patch.object(day_table, "supersedes", lambda *_: True):
        yield
