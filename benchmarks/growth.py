"""Whether K2 stays as quick as when it is new: a commit, a plan, a sensor's tick after 10 commits and after 10,000.

One raw table takes commit after commit of a live feed with 30 partitions, and is maintained after each day's close, as
the daemon would. At 10, 1,000 and 10,000 commits it is measured what the next ones take; then 3,000 days of history
come to it, with what Dagster records of 3,000 days, and it is measured again. Catalog (SQLite), files and Dagster's
records are real; the broker is left out, which answers in the same time however old the tables are.

Run by ``make bench-growth``, for less by ``make bench-growth COMMITS=10,1000 DAYS=300``.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import numpy as np
import psutil
import pyarrow as pa
from dagster import DagsterInstance
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from pyiceberg.catalog import Catalog

from benchmarks.results_file import write_results
from k2_assets.checks import BLOCKING
from k2_assets.names import ingest_job_name
from k2_assets.records.unreported_commits import ReportedDays
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans.day_builds import DayBuild
from k2_market.schemas.tables import DAY, RAW_TRADES
from k2_platform.catch_up import local_instance
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import find_table, open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.scan_files import day_files
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.maintenance.feed_maintenance import FeedMaintenance
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import SHIPPED_FEEDS, Settings
from k2_sensors.kafka_sensor import next_ingest
from k2_sensors.stale_day_sensor import next_build

PARTITIONS = 30
ROWS_A_PARTITION = 20
COMMITS_A_DAY = 250
DAYS_A_COMMIT = 50
"""Of the history that is loaded at the end, as a backlog's runs take many small days at once."""

TIMES = 25
"""How often each thing is measured; the median is told."""

GOAL_RATIO = 1.5
GOAL_TICK_SECONDS = 0.2
TOPIC_ID = "k2benchmarktopicAAAAAA"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--commits", default="10,1000,10000", help="after how many commits it is measured")
    arguments.add_argument("--days", type=int, default=3000, help="days of history at the end")
    chosen = arguments.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="k2-growth-") as directory:
        settings = Settings(home=Path(directory))
        with local_instance(settings) as instance:
            growing = GrowingFeed(settings.home, instance)
            measured = list(_measured(growing, [int(each) for each in chosen.commits.split(",")], chosen.days))
    write_results("growth", _figures(measured))


def _measured(growing: "GrowingFeed", checkpoints: list[int], days: int) -> Iterator[dict[str, Any]]:
    for commits in checkpoints:
        growing.commit_until(commits)
        yield growing.measure()
    growing.load_history(days)
    yield growing.measure()


def _figures(measured: list[dict[str, Any]]) -> dict[str, Any]:
    first, last = measured[0], measured[-1]
    names = [f"{name}_{unit}" for name in ("commit", "plan", "tick") for unit in ("seconds", "cpu_seconds")]
    ratios = {name: round(last[name] / first[name], 2) for name in names}
    held = {
        **{name: ratios[f"{name}_seconds"] <= GOAL_RATIO for name in ("commit", "plan", "tick")},
        "tick_under_200_ms": last["tick_seconds"] < GOAL_TICK_SECONDS,
    }
    return {
        "partitions": PARTITIONS,
        "rows_a_commit": PARTITIONS * ROWS_A_PARTITION,
        "commits_a_day": COMMITS_A_DAY,
        "medians_of": TIMES,
        "measured": measured,
        "ratios_of_last_to_first": ratios,
        "within_the_goal_of_1_5": held,
    }


@dataclass
class GrowingFeed:
    """A feed whose tables grow.

    Attributes:
        directory: Where everything lies.
        instance: Dagster's records.
        commits: Ingest commits so far.
        offset: Where each partition's log is read up to.
        maintenances: What each maintenance took, in seconds.
    """

    directory: Path
    instance: DagsterInstance
    commits: int = 0
    offset: int = 0
    maintenances: list[float] = field(default_factory=list)
    _days: set[date] = field(default_factory=set)
    _run_id: str = ""

    def __post_init__(self) -> None:
        self.feed: Feed = load_feeds([SHIPPED_FEEDS])["sim"]
        self.calendar = TradingCalendar.of(self.feed)
        self.day = self.calendar.next_trading_day(self.feed.start_date + timedelta(days=1))
        self.iceberg = IcebergCatalogResource(
            uri=f"sqlite:///{self.directory}/catalog.db", warehouse=f"file://{self.directory}/warehouse"
        )
        self.catalog: Catalog = open_catalog(self.iceberg.uri, self.iceberg.warehouse)
        self.started = datetime.now(UTC)
        self._reported = ReportedDays()

    def commit_until(self, commits: int) -> None:
        """Commit, and maintain after each day's close."""
        while self.commits < commits:
            self.commit([self.day])
            if self.commits % COMMITS_A_DAY == 0:
                self.close_day()

    def commit(self, days: list[date]) -> None:
        """One ingest commit of rows of some days, with Dagster's record of its run."""
        run = dg.DagsterRun(job_name=ingest_job_name(self.feed.name, TRADES), status=dg.DagsterRunStatus.SUCCESS)
        self._commit(days, run.run_id)
        self.instance.add_run(run)
        self._run_id = run.run_id

    def _commit_next(self) -> None:
        self._commit([self.day], self._run_id)

    def _commit(self, days: list[date], run_id: str) -> None:
        rows, covered = _rows(self.offset, days), _covered(self.offset)
        RawTable(self.catalog, self.feed.name, TRADES).commit(
            Delivery(rows, covered, {TOPIC_ID: self.feed.topics.trades}, run_id)
        )
        self.offset += ROWS_A_PARTITION
        self.commits += 1
        self._days.update(days)

    def close_day(self) -> None:
        """Report the day as made, maintain the tables after its close, and go on to the next."""
        self.report([self.day])
        now = self.calendar.closes_at(self.day) + timedelta(hours=2)
        by_storage = self.started + timedelta(days=2 * (len(self.maintenances) + 1))
        started = time.perf_counter()
        FeedMaintenance(self.catalog, self.feed, TRADES, lambda: now, lambda _: by_storage).carry_out(self.day)
        self.maintenances.append(time.perf_counter() - started)
        print(f"{self.commits:,} commits, {self.day} maintained in {self.maintenances[-1]:.2f} s", flush=True)
        self.day = self.calendar.next_trading_day(self.day)

    def load_history(self, days: int) -> None:
        """Take so many days before all others, as a backlog."""
        first = min(self._days)
        history = [first - timedelta(days=number + 1) for number in range(days)]
        for start in range(0, days, DAYS_A_COMMIT):
            self.commit(history[start : start + DAYS_A_COMMIT])
        self.report(history)
        print(f"{days:,} days of history loaded", flush=True)

    def report(self, days: list[date]) -> None:
        """Record days as ingested, checked and built, in Dagster and in the table that is made last."""
        raw = dg.AssetKey([self.feed.name, "raw_trades"])
        versions = RawTable(self.catalog, self.feed.name, TRADES).view().day_versions
        for day in days:
            partition = day.isoformat()
            tags = {DATA_VERSION_TAG: str(versions[day])}
            self.instance.report_runless_asset_event(dg.AssetMaterialization(raw, partition=partition, tags=tags))
            for check in TRADES.checks:
                if check in BLOCKING:
                    passed = dg.AssetCheckEvaluation(
                        asset_key=raw, check_name=check, passed=True, metadata={}, partition=partition
                    )
                    self.instance.report_runless_asset_event(passed)
        last = DayTable(self.catalog, self.feed.name, DAY.table)
        built = {day: DayBuild(versions[day], "benchmark") for day in days}
        with last.stager(days) as stager, ExitStack() as stack:
            last.publish([stack.enter_context(stager.stage(day)) for day in days], "benchmark", built)

    def measure(self) -> dict[str, Any]:
        """What the next commit, the plan of a day's files and a tick of the sensors take, in seconds, and memory."""
        table = find_table(self.catalog, self.feed.name, "raw_trades")
        snapshot = None if table is None else table.current_snapshot()
        assert table is not None
        assert snapshot is not None
        assert snapshot.summary is not None
        found = {
            "commits": self.commits,
            "days": len(self._days),
            "data_files": int(snapshot.summary["total-data-files"] or 0),
            "manifests": len(snapshot.manifests(table.io)),
            "snapshots": len(table.metadata.snapshots),
            "metadata_bytes": len(table.io.new_input(table.metadata_location)),
            **_medians("plan", self._plan),
            **_medians("tick", self._tick),
            **_medians("commit", self._commit_next),
            "maintenance_seconds": round(median(self.maintenances[-5:]), 3) if self.maintenances else None,
            "memory_bytes": psutil.Process().memory_info().rss,
        }
        print(found, flush=True)
        return found

    def _plan(self) -> None:
        """Which files hold a closed day, from the catalog on."""
        day_files(find_table(self.catalog, self.feed.name, "raw_trades"), self._a_closed_day)

    def _tick(self) -> None:
        """What the Kafka sensor and the stale-day sensor do, with something pending in every partition."""
        now = self.calendar.closes_at(self.day) - timedelta(hours=1)
        topics = _Topics(self.feed, self.offset, now)
        request = next_ingest(self.feed, TRADES, topics, self.iceberg, self.instance, now, self._reported)
        assert isinstance(request, dg.RunRequest), request
        built = next_build(self.feed, TRADES, self.iceberg, self.instance, now)
        assert isinstance(built, dg.SkipReason), built

    @property
    def _a_closed_day(self) -> date:
        return max(self._days - {self.day}, default=self.day)


class _Topics(KafkaTopics):
    """A topic's logs with some messages pending in each partition; no broker is asked."""

    def __init__(self, feed: Feed, offset: int, now: datetime) -> None:
        logs = (PartitionState(each, 0, offset + 5, offset + 5) for each in range(PARTITIONS))
        self._state = TopicState(feed.topics.trades, TOPIC_ID, tuple(logs))
        self._now = now

    def state(self, topic: str) -> TopicState:  # noqa: ARG002  # there is but one
        return self._state

    def first_timestamps(self, topic: TopicState, ranges: RangeSet) -> dict[int, datetime]:  # noqa: ARG002
        return dict.fromkeys(range(PARTITIONS), self._now)


def _medians(name: str, act: Callable[[], None]) -> dict[str, float]:
    """What something takes: its time, and the processor's, which others on the machine change less."""
    wall, processor = [], []
    for _ in range(TIMES):
        started, cpu = time.perf_counter(), time.process_time()
        act()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - cpu)
    return {f"{name}_seconds": round(median(wall), 4), f"{name}_cpu_seconds": round(median(processor), 4)}


def _covered(offset: int) -> RangeSet:
    return RangeSet.of(OffsetRange(TOPIC_ID, each, offset, offset + ROWS_A_PARTITION) for each in range(PARTITIONS))


def _rows(offset: int, days: list[date]) -> pa.Table:
    """Rows of a commit: every partition's next offsets, spread over the days."""
    count = PARTITIONS * ROWS_A_PARTITION
    number = np.arange(count)
    in_order = np.repeat(np.array(days, dtype="datetime64[D]"), -(-count // len(days)))[:count]
    said: dict[str, pa.Array] = {
        "trade_date": pa.array(in_order),
        "symbol": pa.array([f"SIM{each:02}" for each in number % 50]),
        "exchange_timestamp": pa.array(in_order.astype("datetime64[us]") + number, pa.timestamp("us")),
        "trade_id": pa.array([f"{offset}-{each}" for each in number]),
        "kafka_topic_id": pa.array([TOPIC_ID] * count),
        "kafka_partition": pa.array(number // ROWS_A_PARTITION),
        "kafka_offset": pa.array(offset + number % ROWS_A_PARTITION),
    }
    columns = [said[name.name] if name.name in said else pa.nulls(count) for name in RAW_TRADES]
    return pa.table(
        [column.cast(name.type) for column, name in zip(columns, RAW_TRADES, strict=True)], schema=RAW_TRADES
    )


if __name__ == "__main__":
    main()
