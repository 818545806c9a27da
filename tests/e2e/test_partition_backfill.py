"""A backfill of three days that have been made already, asked for as Dagster's UI does."""

from dataclasses import dataclass

import pytest
from running_stack import RunningStack, eventually
from simulated_days import SimulatedDays

from k2_market.schemas.tables import BAR_INTERVALS
from k2_sensors.alerts import SETTLING

pytestmark = pytest.mark.timeout(900)

TABLES = ("raw_trades", "trades", *(interval.table for interval in BAR_INTERVALS))

LAUNCH = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status numPartitions error { message } }
  }
}
"""
UNDER_WAY = {"REQUESTED", "CANCELING", "FAILING"}


@dataclass(frozen=True)
class Backfill:
    """A backfill, and the runs that there were before it."""

    backfill_id: str
    runs_before: frozenset[str]


@pytest.fixture(scope="module")
def backfill(stack: RunningStack, simulated: SimulatedDays) -> Backfill:
    """The backfill after it has ended; what its events have the sensors do is done, too."""
    runs_before = frozenset(run.run_id for run in stack.runs())
    launched = stack.graphql(
        LAUNCH,
        backfillParams={
            "tags": [],
            "assetSelection": [{"path": ["sim", table]} for table in TABLES],
            "partitionNames": list(simulated.days),
            "fromFailure": False,
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill_id = str(launched["backfillId"])
    eventually(lambda: _status(stack, backfill_id)["status"] not in UNDER_WAY, f"the end of backfill {backfill_id}")
    stack.wait_until_caught_up("sim")
    return Backfill(backfill_id, runs_before)


def test_succeeds_with_every_run_green_and_no_day_made_twice(stack: RunningStack, backfill: Backfill) -> None:
    status = _status(stack, backfill.backfill_id)
    assert status == {"status": "COMPLETED_SUCCESS", "numPartitions": 3, "error": None}
    runs = [run for run in stack.runs() if run.run_id not in backfill.runs_before]
    assert {run.status for run in runs} == {"SUCCESS"}
    assert len(runs) == 4, "a run for each session of raw rows, and one for the trades and bars of all"
    assert {run.tags.get("dagster/backfill") for run in runs} == {backfill.backfill_id}


def test_adds_nothing_to_the_raw_table_and_says_so(
    stack: RunningStack, simulated: SimulatedDays, backfill: Backfill
) -> None:
    for day in simulated.days:
        metadata = stack.latest_metadata(["sim", "raw_trades"], day)
        assert metadata["rows_added"] == 0
        assert metadata["dagster/partition_row_count"] > 2_900
        assert metadata["note"].startswith("Nothing added")


def test_raises_no_alert_of_what_was_known(stack: RunningStack, backfill: Backfill) -> None:
    ended = max(run.ended or 0 for run in stack.runs())
    stack.wait_for_tick("check_alert_sensor", after=ended + SETTLING.total_seconds())
    assert len(stack.webhook.titles) == len(set(stack.webhook.titles)) == 4


def _status(stack: RunningStack, backfill_id: str) -> dict[str, object]:
    found: dict[str, object] = stack.graphql(STATUS, id=backfill_id)["partitionBackfillOrError"]
    return found
