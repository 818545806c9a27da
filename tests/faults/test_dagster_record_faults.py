"""Dagster's own records wiped, locked, or made by two at once: rows and ledger do not depend on them."""

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from faked_clock import wait_until_stopped
from fault_tally import FaultTally
from faulted_feed import DAY, EARLIER_DAY, NAME, FaultedFeed, assert_whole, k2_command

from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.registry_process import LocalRegistry
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable

TRADES = 500


@pytest.fixture
def faulted(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry) -> FaultedFeed:
    return FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, registry.url)


def bars_of(faulted: FaultedFeed, *days: object) -> list[int]:
    catalog = open_catalog(faulted.settings.iceberg_catalog_uri, faulted.settings.iceberg_warehouse)
    return [DayTable(catalog, NAME, "ohlcv_1d").read_day(day).num_rows for day in days]  # type: ignore[arg-type]


def start(faulted: FaultedFeed, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        k2_command("catch-up", "--feed", NAME),
        env=os.environ | faulted.settings.environment_variables() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_after_dagsters_records_are_wiped_ingestion_goes_on_from_the_table_and_unbuilt_days_are_built(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    faulted.send(TRADES)
    assert start(faulted, K2_CRASH_AT="after_commit").wait(timeout=120) == -signal.SIGKILL
    assert faulted.lag() == 0
    assert bars_of(faulted, DAY) == [0]
    shutil.rmtree(faulted.settings.dagster_home)
    done = faulted.catch_up()
    assert (done.ingest_runs, done.failed) == (0, 0)
    assert all(bars_of(faulted, EARLIER_DAY, DAY))
    assert_whole(faulted, tally, "G7")


def test_a_table_that_was_dropped_is_read_anew_though_runs_for_the_same_ranges_succeeded(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Dagster starts nothing for a run key that it has seen, so a key is not used a second time."""
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    catalog = open_catalog(faulted.settings.iceberg_catalog_uri, faulted.settings.iceberg_warehouse)
    catalog.drop_table((NAME, "raw_trades"))
    assert faulted.lag() == TRADES
    assert_whole(faulted, tally, "G12")
    assert faulted.table().view().rows == TRADES


@pytest.mark.slow
@pytest.mark.parametrize("file", ["history/runs.db", "schedules/schedules.db"])
def test_dagsters_database_locked_during_a_run_costs_no_row_and_no_second_one(
    file: str, faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    faulted.send(TRADES)
    process = start(faulted, K2_PAUSE_AT="parquet_written")
    wait_until_stopped(process.pid)
    held = sqlite3.connect(faulted.settings.dagster_home / file, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    process.send_signal(signal.SIGCONT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=45)
    held.execute("ROLLBACK")
    out, err = process.communicate(timeout=240)
    assert process.returncode in (0, 1), err[-3000:]
    if process.returncode == 1:
        assert "1 failed" in out or err.splitlines()[-1].startswith("k2: "), err[-3000:]
    assert_whole(faulted, tally, "G6")
    assert all(bars_of(faulted, EARLIER_DAY, DAY))


@pytest.mark.slow
def test_processes_that_start_at_once_on_an_empty_home_both_do_their_work(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    for number in range(3):
        elsewhere = faulted.with_settings(home=faulted.settings.home.with_name(f"first-start-{number}"))
        faulted.send(TRADES, seed=number)
        both = [start(elsewhere) for _ in range(2)]
        for process in both:
            _, err = process.communicate(timeout=240)
            assert process.returncode == 0, err[-3000:]
        assert_whole(elsewhere, tally, "G8")
