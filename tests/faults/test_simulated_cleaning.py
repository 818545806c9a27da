"""The orphan cleaner beside writers that are stopped at any step for as long as may be, in simulated schedules."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from fault_tally import FaultTally
from simulated_cleaning import (
    CleanedDayTable,
    CleanedRawTable,
    CleanedTable,
    announcements_unread,
    clean,
    cleaning_simulated,
    deleted_unannounced,
    files_not_looked_up,
    last_writer_wins,
    property_commits_unguarded,
)
from simulated_ingest import FEED
from simulated_schedule import Outcome, Schedule

pytestmark = pytest.mark.slow

SCHEDULES = 20
ENOUGH = 150
"""Schedules within which whatever is done wrong must be found; most of it is found by the first few."""

Wrong = Callable[[], AbstractContextManager[None]]
LOSES_FILES: list[Wrong] = [
    deleted_unannounced,
    announcements_unread,
    files_not_looked_up,
    property_commits_unguarded,
]


class CleanedSchedule(Schedule):
    """A schedule of ingestion, with all its faults, in which the raw table is cleaned again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._kept = 3  # so that there is much to clean
        self.seen = 0
        self._started = 0

    def run(self) -> Outcome:
        with cleaning_simulated():
            return super().run()

    def _give_a_turn(self) -> None:
        if self.random.random() < 0.25 and self._started < 60:
            self._started += 1
            self.turns.start(f"cleaner-{self._started}", self._clean)
        super()._give_a_turn()

    def _clean(self) -> None:
        self.seen += sum(clean(self.catalog, FEED.name, "raw_trades"))


def test_nothing_is_lost_or_doubled_in_any_schedule_of_ingestion_with_cleanings(tally: FaultTally) -> None:
    seen = 0
    for seed in range(tally.seed, tally.seed + SCHEDULES):
        schedule = CleanedSchedule(seed)
        outcome = schedule.run()
        seen += schedule.seen
        assert not outcome.problems, f"schedule {seed}: {outcome.problems[0]}\n" + "\n".join(outcome.story)
        tally.simulated_seeds += 1
    assert seen > SCHEDULES


@pytest.mark.parametrize("table", [CleanedRawTable, CleanedDayTable])
def test_no_file_that_was_committed_is_deleted_however_long_writer_and_cleaner_stand_still(
    table: type[CleanedTable], tally: FaultTally
) -> None:
    deleted = committed = superseded = 0
    for seed in range(tally.seed, tally.seed + SCHEDULES):
        schedule = table(seed)
        problems = schedule.run()
        deleted, committed = deleted + schedule.deleted, committed + schedule.committed
        superseded += schedule.superseded
        assert not problems, f"schedule {seed}: {problems[0]}\n" + "\n".join(schedule.turns.story)
        tally.simulated_seeds += 1
    assert min(deleted, committed) > SCHEDULES
    assert superseded or table is CleanedRawTable


@pytest.mark.parametrize("wrong", LOSES_FILES, ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize("table", [CleanedRawTable, CleanedDayTable])
def test_cleaning_done_wrong_deletes_what_was_committed(table: type[CleanedTable], wrong: Wrong) -> None:
    with wrong():
        assert any("is not there" in problem for seed in range(ENOUGH) for problem in table(seed).run())


def test_builds_that_publish_over_newer_ones_are_found() -> None:
    with last_writer_wins():
        assert any("was of version" in problem for seed in range(ENOUGH) for problem in CleanedDayTable(seed).run())
