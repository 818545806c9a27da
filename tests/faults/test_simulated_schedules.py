"""Thousands of schedules of faults against K2's own ingestion, in memory; and proof that wrong ingestion is found."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import wrong_ingestion
from fault_tally import FaultTally
from simulated_broker import SimulatedReader
from simulated_schedule import Outcome, Schedule, outcomes
from simulated_weather import FAULTS

SEEDS = 2_000
SEEDS_WITH_REAL_FILES = 20
ENOUGH = 300
"""Schedules within which whatever is done wrong must be found; most of it is found by the first few."""


def explained(failed: list[Outcome]) -> str:
    first = failed[0]
    return (
        f"{len(failed)} schedules went wrong: {[each.seed for each in failed]}. Run the first again with\n"
        f"    pytest tests/faults/test_simulated_schedules.py -k nothing_is_lost --replay {first.seed}\n{first.told()}"
    )


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_in_any_schedule(
    tally: FaultTally, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    replayed = pytestconfig.getoption("--replay", None)
    if replayed is not None:
        found = [Schedule(replayed).run()]
        with capsys.disabled():
            sys.stdout.write(f"\n{found[0].told()}\n")
    else:
        found = outcomes(range(tally.seed * SEEDS, (tally.seed + 1) * SEEDS), processes=2)
    for outcome in found:
        tally.simulated_seeds += 1
        tally.produced += outcome.produced
        for fault, times in outcome.faults.items():
            for _ in range(times):
                tally.injected(*FAULTS[fault])
    failed = [outcome for outcome in found if outcome.problems]
    assert not failed, explained(failed)
    if replayed is None:
        assert {fault for outcome in found for fault in outcome.faults} == set(FAULTS)


def test_a_schedule_is_the_same_whenever_and_wherever_it_is_run(tally: FaultTally) -> None:
    seeds = range(tally.seed, tally.seed + 5)
    stories = [Schedule(seed).run().told() for seed in seeds]
    assert [Schedule(seed).run().told() for seed in seeds] == stories
    script = f"from simulated_schedule import Schedule\nfor seed in {list(seeds)}: print(Schedule(seed).run().told())"
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert elsewhere.stdout == "".join(f"{story}\n" for story in stories)


def test_schedules_go_the_same_way_with_all_of_pyiceberg_and_parquet_files(tally: FaultTally) -> None:
    for seed in range(tally.seed, tally.seed + SEEDS_WITH_REAL_FILES):
        real, simulated = Schedule(seed, real_files=True).run(), Schedule(seed).run()
        assert not real.problems, explained([real])
        assert real.story == simulated.story


WRONG_INGESTION: dict[Callable[[], AbstractContextManager[None]], str] = {
    wrong_ingestion.ledgers_remembered: "doubled",
    wrong_ingestion.pyiceberg_retries: "doubled",
    wrong_ingestion.written_again: "doubled",
    wrong_ingestion.rows_before_ranges: "outside the ledger",
    wrong_ingestion.rollbacks_not_noticed: "lost though the ledger covers them",
    wrong_ingestion.dead_letters_dropped: "lost though the ledger covers them",
    wrong_ingestion.days_not_reported: "was not reported since",
    wrong_ingestion.failed_runs_keep_their_ranges: "not quiet after",
    wrong_ingestion.claims_believed: "said to be truncated and never were",
    wrong_ingestion.failed_runs_go_again_as_they_were: "not quiet after",
    wrong_ingestion.failed_ranges_set_aside: "set aside without need",
    wrong_ingestion.set_aside_without_a_row: "lost though the ledger covers them",
}
"""What is done wrong, and what the checker says of it."""

CERTAIN: dict[Callable[[], AbstractContextManager[None]], tuple[str, ...]] = {
    wrong_ingestion.rollbacks_not_noticed: ("table rolled back",),
}
"""Faults that all schedules get in which something done wrong is looked for, as one in five has them otherwise."""

WRONG_READING: dict[type[SimulatedReader], str] = {
    wrong_ingestion.ReaderThatSkips: "lost though the ledger covers them",
    wrong_ingestion.ReaderThatTrustsTheEnd: "lost though the ledger covers them",
    wrong_ingestion.ReaderThatResets: "lost though the ledger covers them",
    wrong_ingestion.ReaderThatKnowsTopicsByName: "say something else than was sent",
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG_INGESTION, ids=lambda wrong: wrong.__name__)
def test_ingestion_done_wrong_is_found_within_a_few_hundred_schedules(
    wrong: Callable[[], AbstractContextManager[None]],
) -> None:
    with wrong():
        assert_found(WRONG_INGESTION[wrong], SimulatedReader, CERTAIN.get(wrong, ()))


@pytest.mark.slow
@pytest.mark.parametrize("reader", WRONG_READING, ids=lambda reader: reader.__name__)
def test_reading_done_wrong_is_found_within_a_few_hundred_schedules(reader: type[SimulatedReader]) -> None:
    assert_found(WRONG_READING[reader], reader)


def assert_found(said: str, reader: type[SimulatedReader], certain: Sequence[str] = ()) -> None:
    found = (
        (seed, problem) for seed in range(ENOUGH) for problem in Schedule(seed, reader, certain=certain).run().problems
    )
    first = next((seed for seed, problem in found if said in problem), None)
    assert first is not None, f"no schedule of {ENOUGH} says {said!r}"
    sys.stdout.write(f"schedule {first} says {said!r}\n")
