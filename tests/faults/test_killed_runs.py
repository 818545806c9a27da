"""A run process killed with SIGKILL at a named point: the next run leaves what no crash would have left."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import pytest
from catching_up import catch_up
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from ingest_processes import CATCH_UP, running
from own_feeds import OwnFeed, own_feed
from recorded_producer import Acked
from trade_batches import DAY

from k2_market.schemas.tables import BAR_INTERVALS
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable

TRADES = 3_000
SMALL_BATCHES = f"""
from k2_resources.kafka import message_gathering, topic_reader

message_gathering.MESSAGES_PER_BATCH = topic_reader._MESSAGES_PER_CALL = 500
{CATCH_UP}
"""
"""``k2`` with so small batches that a run has several."""
KILLED_BEFORE_SIGNING = f"""
import os, signal
from k2_assets import raw_table, trades

{{module}}.record_process = lambda context: os.kill(os.getpid(), signal.SIGKILL)
{CATCH_UP}
"""
"""``k2`` whose run of an asset dies as its first step begins."""
TABLES = ("trades", *(interval.table for interval in BAR_INTERVALS))


@dataclass(frozen=True)
class Source:
    """A feed whose topic is full, and what a home holds in which nothing was disturbed."""

    own: OwnFeed
    acked: Sequence[Acked]
    undisturbed: list[object]

    def at(self, home: Path) -> OwnFeed:
        """The same feed in a home where nothing has been done yet."""
        return in_home(self.own, home)


def in_home(own: OwnFeed, home: Path) -> OwnFeed:
    return replace(own, settings=own.settings.model_copy(update={"home": home}))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, kafka, registry) -> Source:
    own = own_feed(tmp_path_factory.mktemp("source"), kafka.bootstrap_servers, registry.url, partitions=30)
    producer = own.producer()
    producer.send(own.trades(TRADES))
    producer.flush()
    undisturbed = in_home(own, tmp_path_factory.mktemp("undisturbed"))
    assert catch_up(undisturbed).failed == 0
    assert undisturbed.raw().rows == TRADES
    return Source(own, producer.acked, list(content(undisturbed)))


def content(own: OwnFeed) -> Iterator[object]:
    catalog = open_catalog(own.settings.iceberg_catalog_uri, own.settings.iceberg_warehouse)
    raw = own.raw().read_day(DAY).to_pylist()
    yield sorted((row["kafka_partition"], row["kafka_offset"], row["trade_id"], row["price"]) for row in raw)
    yield own.raw().rows, own.ledger().messages, own.ledger().covered
    for table in TABLES:
        yield DayTable(catalog, own.feed.name, table).read_day(DAY).to_pylist()


def survives(point: str, row: str, source: Source, home: Path, tally: FaultTally, program: str = CATCH_UP) -> None:
    """Catch up in a process that dies at a point, then here, once what it carried has rested."""
    own = source.at(home)
    with running(own, program, "catch-up", "--feed", own.feed.name, K2_CRASH_AT=point) as process:
        code, said = process.ends()
    assert code == -signal.SIGKILL, f"not killed at {point}: {said[-2000:]}"
    assert catch_up(own).failed == 0
    assert own.runs(dg.DagsterRunStatus.STARTED) == []
    assert list(content(own)) == source.undisturbed
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, source.acked, tally, days=[DAY])
    tally.injected(row)


def test_a_run_killed_between_the_parquet_write_and_the_commit_loses_and_doubles_nothing(
    source: Source, tmp_path: Path, tally: FaultTally
) -> None:
    survives("before_cas", "K2", source, tmp_path, tally)


def test_a_run_killed_after_the_commit_loses_and_doubles_nothing(
    source: Source, tmp_path: Path, tally: FaultTally
) -> None:
    survives("after_cas", "K3", source, tmp_path, tally)


@pytest.mark.parametrize("module", ["raw_table", "trades"])
def test_a_run_killed_before_its_first_step_is_not_taken_for_one_that_is_under_way(
    module: str, source: Source, tmp_path: Path, tally: FaultTally
) -> None:
    survives("", "K1", source, tmp_path, tally, KILLED_BEFORE_SIGNING.format(module=module))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "row"),
    [
        ("polled", "K1"),
        ("decoded", "K1"),
        ("parquet_written", "K2"),
        ("after_commit", "K3"),
        ("after_event", "K3"),
        ("bars_half", "K5"),
    ],
)
def test_a_run_killed_anywhere_else_loses_and_doubles_nothing(
    point: str, row: str, source: Source, tmp_path: Path, tally: FaultTally
) -> None:
    survives(point, row, source, tmp_path, tally)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "row"), [("polled:2", "K1"), ("before_cas:2", "K2"), ("after_cas:3", "K3")])
def test_a_run_killed_between_its_commits_keeps_those_it_made(
    point: str, row: str, source: Source, tmp_path: Path, tally: FaultTally
) -> None:
    survives(point, row, source, tmp_path, tally, SMALL_BATCHES)
