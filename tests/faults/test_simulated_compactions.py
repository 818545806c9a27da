"""Compaction in simulated schedules: beside runs, killed and overtaken at any step, with every fault that comes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from fault_tally import FaultTally
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from simulated_files import read_arrow_files, write_arrow_files
from simulated_ingest import FEED
from simulated_schedule import Outcome, Schedule

from k2_market.errors import K2Error
from k2_market.kinds.trades import TRADES
from k2_market.ledger.row_offsets import OFFSET_COLUMNS
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.maintenance import raw_compaction
from k2_resources.maintenance.raw_compaction import RawCompactor

SCHEDULES = 100


class CompactingSchedule(Schedule):
    """A schedule in which the table is compacted every now and then, a process each time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.compacted = 0
        self._started = 0

    def run(self) -> Outcome:
        with (
            patch.object(raw_compaction, "write_day_files", _write_all),
            patch.object(raw_compaction, "read_files", read_arrow_files),
            # The broker's order, since the checker asks it of every file.
            patch.object(raw_compaction, "SORTED_BY", OFFSET_COLUMNS),
        ):
            return super().run()

    def _give_a_turn(self) -> None:
        if self.random.random() < 0.08 and self._started < 12:
            self._started += 1
            self.turns.start(f"compaction-{self._started}", self._compact)
        super()._give_a_turn()

    def _compact(self) -> None:
        try:
            self.compacted += RawCompactor(self.catalog, FEED.name, TRADES, _all_closed).compact() is not None
        except K2Error as error:
            self.turns.tell("compaction", f"fails: {error}")


def _all_closed(days: frozenset[date]) -> frozenset[date]:
    return days


def _write_all(metadata: Any, io: Any, rows: pa.Table) -> Iterable[DataFile]:
    return list(write_arrow_files(metadata, io, rows))


@contextmanager
def rows_dropped_by_compaction() -> Iterator[None]:
    """The fault that a compaction writes a row less than it read, and believes what it wrote."""
    wrong: Callable[..., Any] = lambda metadata, io, rows: _write_all(metadata, io, rows.slice(1))  # noqa: E731
    with patch.object(RawCompactor, "_written", lambda _, table, __, files: _written_wrong(wrong, table, files)):
        yield


def _written_wrong(write: Callable[..., Any], table: Table, files: list[DataFile]) -> DataFile:
    rows = read_arrow_files(table, files, RAW_TRADES)
    (file,) = write(table.metadata, table.io, rows)
    return file  # type: ignore[no-any-return]


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_in_any_schedule_with_compactions(tally: FaultTally) -> None:
    compacted = 0
    for seed in range(tally.seed, tally.seed + SCHEDULES):
        schedule = CompactingSchedule(seed)
        outcome = schedule.run()
        compacted += schedule.compacted
        assert not outcome.problems, f"schedule {seed}: {outcome.problems[0]}\n" + "\n".join(outcome.story)
        tally.simulated_seeds += 1
    assert compacted > SCHEDULES // 4


def test_a_compaction_that_drops_a_row_is_found(tally: FaultTally) -> None:
    with rows_dropped_by_compaction():
        outcomes = (CompactingSchedule(seed).run() for seed in range(tally.seed, tally.seed + SCHEDULES))
        assert any(outcome.problems for outcome in outcomes)
