"""The Iceberg catalog down, locked, silent about what it did, restored or rolled back: the ledger says what is true."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commit_faults import ALL, LOST_CONNECTION, commits_become, lands_without_an_answer, never_arrives
from fault_tally import FaultTally
from faulted_feed import DAY, EARLIER_DAY, NAME, FaultedFeed, assert_whole
from pyiceberg.catalog import Catalog

from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.registry_process import LocalRegistry
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.table_errors import CatalogUnavailable
from k2_resources.raw.view import TableRolledBack

TRADES = 500


@pytest.fixture
def faulted(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry) -> FaultedFeed:
    return FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, registry.url)


def catalog_file(faulted: FaultedFeed) -> Path:
    return faulted.settings.home / "catalog.db"


def open_catalog_of(faulted: FaultedFeed) -> Catalog:
    return open_catalog(faulted.settings.iceberg_catalog_uri, faulted.settings.iceberg_warehouse)


@contextmanager
def lock(database: Path, kind: str) -> Iterator[None]:
    """Hold SQLite's lock on a database: IMMEDIATE keeps others from writing, EXCLUSIVE from reading too."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.parametrize(
    "table", ["raw_trades", *(pytest.param(name, marks=pytest.mark.slow) for name in ("trades", "ohlcv_1m"))]
)
def test_a_commit_that_lands_while_its_answer_is_lost_is_not_made_again(
    table: str, faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    with commits_become(lands_without_an_answer, f"{NAME}.{table}") as decided:
        done = faulted.catch_up()
    assert decided
    assert (done.failed, faulted.failures()) == (0, [])
    assert_whole(faulted, tally, "C3")


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("raw_trades", "CommitOutcomeUnknown"),
        pytest.param("trades", "CatalogUnavailable", marks=pytest.mark.slow),
        pytest.param("ohlcv_1m", "CatalogUnavailable", marks=pytest.mark.slow),
    ],
)
def test_commits_that_never_reach_the_catalog_fail_the_run_in_words_and_are_made_by_the_next(
    table: str, error: str, faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    with commits_become(never_arrives, f"{NAME}.{table}", times=ALL) as decided:
        assert faulted.catch_up().failed == 1
    assert decided
    told = faulted.failures()[0].splitlines()[0]
    assert error in told
    assert f"{NAME}.{table}" in told
    assert str(LOST_CONNECTION.orig) in told
    assert_whole(faulted, tally, "C4")


@pytest.mark.slow
def test_a_catalog_that_cannot_be_opened_stops_the_plan_in_words_and_nothing_else(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    faulted.send(TRADES, seed=2)
    database = catalog_file(faulted)
    aside = database.with_suffix(".aside")
    database.rename(aside)
    database.mkdir()
    done = faulted.k2("catch-up", "--feed", NAME, "--json")
    assert done.returncode == 1
    (told,) = json.loads(done.stdout)
    assert told["error"].startswith("Iceberg catalog sqlite://"), told
    assert told["error"].endswith("unable to open database file")
    database.rmdir()
    aside.rename(database)
    assert_whole(faulted, tally, "C1")


def test_a_catalog_locked_for_longer_than_a_commit_waits_fails_the_run_and_the_next_commits(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    faulted.send(TRADES, seed=2)
    with lock(catalog_file(faulted), "IMMEDIATE"):
        assert faulted.catch_up().failed == 1
    (failure,) = faulted.failures()
    assert "CommitOutcomeUnknown" in failure.splitlines()[0]
    assert "database is locked" in failure.splitlines()[0]
    assert "still pending" in failure.splitlines()[0]
    assert_whole(faulted, tally, "C8", "C2")


def test_a_table_rolled_back_by_hand_is_left_alone_and_its_missing_ranges_are_named(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    before = faulted.ledger()
    faulted.send(TRADES, seed=2)
    faulted.catch_up_to_the_end()
    missing = faulted.ledger().covered - before.covered
    assert len(missing) == TRADES
    catalog = open_catalog_of(faulted)
    table = catalog.load_table((NAME, "raw_trades"))
    newest = table.current_snapshot()
    assert newest is not None
    assert newest.parent_snapshot_id is not None
    table.manage_snapshots().rollback_to_snapshot(newest.parent_snapshot_id).commit()

    faulted.send(TRADES, seed=3)
    with pytest.raises(TableRolledBack) as halted:
        faulted.catch_up()
    assert halted.value.ranges == missing
    assert all(str(each) in str(halted.value) for each in missing)
    assert faulted.table().view().rows == TRADES

    table = catalog.load_table((NAME, "raw_trades"))
    table.manage_snapshots().set_current_snapshot(newest.snapshot_id).commit()
    assert_whole(faulted, tally, "C10")


@pytest.mark.slow
def test_a_catalog_restored_from_a_backup_goes_on_from_there(faulted: FaultedFeed, tally: FaultTally) -> None:
    """Table and ledger go back together, so what came since is read from Kafka again, as long as that keeps it."""
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    backup = shutil.copyfile(catalog_file(faulted), faulted.settings.home / "backup.db")
    for seed in (2, 3):
        faulted.send(TRADES, seed=seed)
        faulted.catch_up_to_the_end()
    shutil.copyfile(backup, catalog_file(faulted))
    assert len(faulted.ledger().covered) == TRADES
    assert_whole(faulted, tally, "C9")
    assert faulted.table().view().rows == 3 * TRADES


@pytest.mark.slow
def test_a_catalog_restored_from_a_backup_whose_metadata_file_is_gone_stops_the_plan_in_words(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Ten commits after a backup its metadata files have been removed; each table's newest can be registered again."""
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    backup = shutil.copyfile(catalog_file(faulted), faulted.settings.home / "backup.db")
    catalog = open_catalog_of(faulted)
    backed_up = catalog.load_table((NAME, "raw_trades")).metadata_location
    faulted.send(TRADES, seed=2)
    faulted.catch_up_to_the_end()
    newest = {name: catalog.load_table(name).metadata_location for name in catalog.list_tables(NAME)}
    Path(backed_up.removeprefix("file://")).unlink()
    shutil.copyfile(backup, catalog_file(faulted))
    done = faulted.k2("catch-up", "--feed", NAME)
    assert done.returncode == 1
    assert "loading faulted.raw_trades: " in done.stdout
    assert "restored from an old backup" in done.stdout
    for name, location in newest.items():
        catalog.drop_table(name)
        catalog.register_table(name, location)
    assert faulted.lag() == 0
    assert_whole(faulted, tally, "C9")


@pytest.mark.slow
def test_a_day_built_after_a_backup_is_built_again_after_its_restore(faulted: FaultedFeed, tally: FaultTally) -> None:
    """Whether Dagster's records, which say that it is built, are restored too or not: the tables say what to build."""
    faulted.send(TRADES)
    assert faulted.k2("catch-up", "--feed", NAME, environment={"K2_CRASH_AT": "after_event"}).returncode == -9
    backup = shutil.copyfile(catalog_file(faulted), faulted.settings.home / "backup.db")
    records = shutil.copytree(faulted.settings.dagster_home, faulted.settings.home / "backup-of-records")
    faulted.catch_up_to_the_end()
    assert_bars_of_day(faulted, are_there=True)

    shutil.copyfile(backup, catalog_file(faulted))
    assert_bars_of_day(faulted, are_there=False)
    faulted.catch_up_to_the_end()
    assert_bars_of_day(faulted, are_there=True)
    assert_whole(faulted, tally, "C9")

    shutil.copyfile(backup, catalog_file(faulted))
    shutil.rmtree(faulted.settings.dagster_home)
    records.rename(faulted.settings.dagster_home)
    assert_whole(faulted, tally, "C9")
    assert_bars_of_day(faulted, are_there=True)


def assert_bars_of_day(faulted: FaultedFeed, are_there: bool) -> None:
    assert (DayTable(open_catalog_of(faulted), NAME, "ohlcv_1d").read_day(DAY).num_rows > 0) is are_there


@pytest.mark.slow
def test_a_catalog_file_that_is_missing_for_a_while_is_a_new_catalog_and_neither_doubles_anything(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    aside = catalog_file(faulted).rename(faulted.settings.home / "aside.db")
    faulted.send(TRADES, seed=2)
    assert_whole(faulted, tally, "C1")
    aside.rename(catalog_file(faulted))
    assert faulted.lag() == TRADES
    assert_whole(faulted, tally, "C1")


@pytest.mark.slow  # SQLite's driver waits five seconds for a lock
def test_a_catalog_that_lets_nobody_read_stops_the_plan_in_words(faulted: FaultedFeed, tally: FaultTally) -> None:
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    faulted.send(TRADES, seed=2)
    with lock(catalog_file(faulted), "EXCLUSIVE"), pytest.raises(CatalogUnavailable, match="database is locked"):
        faulted.catch_up()
    assert_whole(faulted, tally, "C1", "C2")


@pytest.mark.slow
def test_a_first_ingest_that_cannot_create_its_table_says_so_and_the_next_does(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    open_catalog_of(faulted)
    with lock(catalog_file(faulted), "IMMEDIATE"):
        assert faulted.catch_up().failed == 1
    told = faulted.failures()[0].splitlines()[0]
    assert "CatalogUnavailable: Iceberg catalog, creating faulted.raw_trades: database is locked" in told
    assert_whole(faulted, tally, "C8")


@pytest.mark.slow
def test_two_coordinators_of_one_catalog_that_expire_snapshots_all_the_while_double_nothing(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Each has a Dagster of its own, so that neither knows of the other's runs: only the ledger keeps them apart."""
    faulted.send(TRADES)
    shared = faulted.with_settings(
        catalog_uri=faulted.settings.iceberg_catalog_uri, warehouse=faulted.settings.iceberg_warehouse
    )
    other = shared.with_settings(home=faulted.settings.home.with_name("other"))
    racers = [start_racing(each) for each in (shared, other)]
    for round_number in range(2, 10):
        faulted.send(100, seed=round_number)
        faulted.send(100, EARLIER_DAY, seed=round_number)
    for racer in racers:
        out, err = racer.communicate(timeout=240)
        assert racer.returncode == 0, f"{out[-2000:]} {err[-4000:]}"
    for each in (shared, other):
        each.catch_up_to_the_end()
    assert_whole(faulted, tally, "C6")
    for day in (DAY, EARLIER_DAY):
        trades = DayTable(open_catalog_of(faulted), NAME, "trades").read_day(day)
        assert trades.num_rows == trades.group_by(["symbol", "trade_id"]).aggregate([]).num_rows > 0


def start_racing(faulted: FaultedFeed) -> subprocess.Popen[str]:
    """Rounds of catching up in a process of its own, with tables that keep three snapshots."""
    script = """
        from datetime import UTC, datetime, timedelta
        from k2_resources.iceberg import snapshot_expiry
        from k2_market.kinds.trades import TRADES
        from k2_platform.catch_up import catch_up_feed, feeds_named, local_instance
        from k2_resources.settings import Settings

        snapshot_expiry.KEPT_SNAPSHOTS = 3
        settings = Settings.load()
        (feed,) = feeds_named(settings, ["faulted"])
        with local_instance(settings) as instance:
            for _ in range(8):
                later = lambda: datetime.now(UTC) + timedelta(minutes=30)
                print(catch_up_feed(settings, feed, TRADES, instance, later))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | faulted.settings.environment_variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
