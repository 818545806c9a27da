"""The Dagster daemon and its neighbours killed, doubled, switched off or driven by hand: each range comes once."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
import psutil
import pytest
from checker import assert_nothing_lost_or_doubled
from daemon_stack import KAFKA, DaemonStack, daemon_stack, eventually, now
from dagster._core.storage.tags import RUN_KEY_TAG
from fault_tally import FaultTally
from faulted_feed import DAY, EARLIER_DAY, NAME

from k2_assets.names import ingest_job_name
from k2_cli.stack.dagster_processes import command_on
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.registry_process import LocalRegistry
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_platform.dagster_storage import DagsterHome
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]

TRADES = 1_000
IN_FLIGHT = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts, registry: LocalRegistry
) -> Iterator[DaemonStack]:
    with daemon_stack(tmp_path_factory.mktemp("daemon"), java_artifacts, registry.url) as started:
        yield started


@pytest.fixture(autouse=True)
def quiet_before(daemon: DaemonStack) -> None:
    """Each test begins with a stack that runs whole and has nothing to do."""
    daemon.up()
    daemon.wait_until_done()


def assert_whole(daemon: DaemonStack, tally: FaultTally, *names: str) -> None:
    """See that all came without a person's doing, once."""
    daemon.wait_until_done()
    faulted = daemon.faulted
    assert_nothing_lost_or_doubled(faulted.settings, NAME, faulted.acked, tally, days=faulted.days())
    tally.injected(*names)


def assert_requested_once(daemon: DaemonStack, before: frozenset[str]) -> None:
    """See that no two runs since a moment came from one request."""
    keys = [run.tags[RUN_KEY_TAG] for run in daemon.runs() if run.run_id not in before and RUN_KEY_TAG in run.tags]
    assert len(keys) == len(set(keys)) > 0


def send(daemon: DaemonStack, seed: int, trades: int = TRADES, day: date = DAY) -> frozenset[str]:
    """Send trades; the runs that there were before."""
    before = frozenset(run.run_id for run in daemon.runs())
    daemon.faulted.send(trades, day, seed)
    return before


def next_run(daemon: DaemonStack, before: frozenset[str], *statuses: dg.DagsterRunStatus) -> dg.DagsterRun:
    """The first run that was not there before, as soon as it is seen in one of some statuses."""

    def look() -> list[dg.DagsterRun]:
        return [run for run in daemon.runs(*statuses) if run.run_id not in before]

    return eventually(look, f"a run that is {statuses}", every_seconds=0.02)[-1]


def status_of(daemon: DaemonStack, run_id: str) -> dg.DagsterRunStatus:
    (found,) = [run.status for run in daemon.runs() if run.run_id == run_id]
    return found


def trading_days(daemon: DaemonStack, count: int) -> Sequence[date]:
    calendar = TradingCalendar.of(daemon.faulted.feed)
    days = [EARLIER_DAY]
    while len(days) < count:
        days.append(calendar.previous_trading_day(days[-1]))
    return days


@pytest.mark.parametrize(
    ("seed", "statuses"),
    [
        (101, (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)),
        (102, (dg.DagsterRunStatus.STARTING,)),
        (103, (dg.DagsterRunStatus.STARTED,)),
    ],
    ids=["requested", "launched", "under way"],
)
def test_a_daemon_killed_as_a_run_is(
    seed: int, statuses: tuple[dg.DagsterRunStatus, ...], daemon: DaemonStack, tally: FaultTally
) -> None:
    before = send(daemon, seed)
    # A status may last too short to be seen; then a later one of the same run is as good a moment.
    next_run(daemon, before, *statuses, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS)
    daemon.kill("daemon")
    send(daemon, seed + 10)
    daemon.up()
    assert_whole(daemon, tally, "G1")
    assert_requested_once(daemon, before)


def test_a_daemon_killed_at_any_moment_of_its_ticks(daemon: DaemonStack, tally: FaultTally) -> None:
    before = send(daemon, 120, 200)
    for seed in range(121, 124):
        daemon.kill("daemon")
        daemon.up()
        send(daemon, seed, 200)
    assert_whole(daemon, tally, "G1")
    assert_requested_once(daemon, before)


def test_a_run_whose_process_is_killed_is_ended_by_the_run_watch_and_its_ranges_go_again(
    daemon: DaemonStack, tally: FaultTally
) -> None:
    daemon.kill("code-server")
    daemon.up(K2_PAUSE_AT="before_cas")
    before = send(daemon, 201)
    run = next_run(daemon, before, dg.DagsterRunStatus.STARTED)
    process = eventually(lambda: daemon.process_of(run), "the run's process")
    eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the run's standing still at its commit")
    daemon.kill("code-server")
    process.send_signal(signal.SIGKILL)
    daemon.up()
    eventually(lambda: status_of(daemon, run.run_id) is dg.DagsterRunStatus.FAILURE, "the run's end")
    assert_whole(daemon, tally, "G2")


def test_code_server_and_webserver_killed_under_a_run_are_missed_only_until_they_are_back(
    daemon: DaemonStack, tally: FaultTally
) -> None:
    before = send(daemon, 211, 20_000)
    next_run(daemon, before, *IN_FLIGHT)
    daemon.kill("webserver", "code-server")
    send(daemon, 212)
    daemon.up()
    assert_whole(daemon, tally, "G2")


def test_two_daemons_on_one_home_corrupt_nothing(daemon: DaemonStack, tally: FaultTally) -> None:
    settings = daemon.faulted.settings
    home = DagsterHome(settings.dagster_home, settings.code_server_port, settings.environment_variables())
    command = command_on(home, "dagster._daemon", "run", "--workspace", str(home.workspace))
    second = subprocess.Popen(
        command.arguments,
        env=os.environ | dict(command.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for seed in range(301, 305):
            before = send(daemon, seed, 300)
            next_run(daemon, before, *IN_FLIGHT, dg.DagsterRunStatus.SUCCESS)
        daemon.wait_until_done()
    finally:
        second.terminate()
        second.wait(timeout=60)
    send(daemon, 305, 300)
    assert_whole(daemon, tally, "G3")


def test_after_days_without_a_daemon_their_messages_come_in_a_few_runs(daemon: DaemonStack, tally: FaultTally) -> None:
    daemon.stop("daemon")
    days = trading_days(daemon, 20)
    before = {run.run_id for run in daemon.runs()}
    for number, day in enumerate(days):
        daemon.faulted.send(100, day, seed=400 + number)
    daemon.up()
    assert_whole(daemon, tally, "G4")
    runs = [run for run in daemon.runs() if run.run_id not in before]
    assert len(runs) <= 6, [(run.job_name, run.tags.get("dagster/partition")) for run in runs]
    catalog = open_catalog(daemon.faulted.settings.iceberg_catalog_uri, daemon.faulted.settings.iceberg_warehouse)
    bars = DayTable(catalog, NAME, "ohlcv_1d")
    assert all(bars.read_day(day).num_rows for day in days)


def test_a_sensor_that_fails_while_the_broker_is_down_says_so_and_goes_on_when_it_is_back(
    daemon: DaemonStack, tally: FaultTally
) -> None:
    send(daemon, 501)
    down_since = now()
    daemon.kill(KAFKA)
    said = daemon.failed_tick(f"{NAME}_kafka_sensor", down_since)
    assert "KafkaUnavailable: Kafka at " in said
    daemon.up()
    send(daemon, 502)
    assert_whole(daemon, tally, "G5")


def test_a_backfill_while_trades_come_in_doubles_nothing_and_delays_nothing_for_good(
    daemon: DaemonStack, tally: FaultTally
) -> None:
    days = trading_days(daemon, 5)
    for number, day in enumerate(days):
        send(daemon, 600 + number, 200, day)
    daemon.wait_until_done()
    backfill = daemon.launch_backfill(days)
    for seed in range(610, 616):
        send(daemon, seed, 300)
        send(daemon, seed, 50, days[seed % 5])
    assert daemon.end_of_backfill(backfill) == "COMPLETED_SUCCESS"
    assert_whole(daemon, tally, "G10")


def test_the_same_days_backfilled_twice_at_once_come_out_as_once(daemon: DaemonStack, tally: FaultTally) -> None:
    days = trading_days(daemon, 3)
    for number, day in enumerate(days):
        send(daemon, 700 + number, 200, day)
    both = [daemon.launch_backfill(days) for _ in range(2)]
    assert [daemon.end_of_backfill(each) for each in both] == ["COMPLETED_SUCCESS"] * 2
    assert_whole(daemon, tally, "G11")


def test_a_run_that_succeeded_adds_nothing_when_it_is_carried_out_again(daemon: DaemonStack, tally: FaultTally) -> None:
    before = send(daemon, 711)
    daemon.wait_until_done()
    ingest = ingest_job_name(daemon.faulted.feed.name, TRADES_KIND)
    succeeded = daemon.runs(dg.DagsterRunStatus.SUCCESS)
    run = next(run for run in succeeded if run.job_name == ingest and run.run_id not in before)
    rows = daemon.faulted.table().view().rows
    again = daemon.re_execute(run)
    eventually(lambda: status_of(daemon, again) is dg.DagsterRunStatus.SUCCESS, "the end of the second time")
    assert daemon.faulted.table().view().rows == rows
    assert_whole(daemon, tally, "G11")


def test_a_run_that_is_cancelled_is_followed_by_one_for_what_it_left(daemon: DaemonStack, tally: FaultTally) -> None:
    for seed in (721, 722):
        before = send(daemon, seed, 20_000)
        run = next_run(daemon, before, *IN_FLIGHT)
        daemon.cancel(run)
        eventually(lambda run_id=run.run_id: status_of(daemon, run_id) not in IN_FLIGHT, "the end of the run")
    assert_whole(daemon, tally, "G11")
