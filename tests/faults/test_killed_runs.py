"""A run process killed with SIGKILL at a named point: the next run leaves what no crash would have left."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from k2_cli.pending_work import catch_up_feed, local_instance
from k2_cli.producing import produce_simulated_day
from k2_market.feed import Feed, load_feeds
from k2_market.table_schemas import BAR_INTERVALS
from k2_resources.day_table import DayTable
from k2_resources.iceberg_catalog import open_catalog
from k2_resources.raw_table import RawTable
from k2_resources.settings import Settings

DAY = date(2026, 11, 20)
TRADES = 3_000
TABLES = ("trades", *(interval.table for interval in BAR_INTERVALS))


@pytest.fixture(scope="module")
def feeds_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feed of these tests' own, so that its topic is too."""
    directory = tmp_path_factory.mktemp("feeds")
    shipped = (Path(__file__).parents[2] / "feeds" / "sim.toml").read_text(encoding="utf-8")
    text = shipped.replace('name = "sim"', 'name = "crashes"').replace(".trades.sim", ".trades.crashes")
    (directory / "crashes.toml").write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def feed(feeds_directory: Path, tmp_path_factory: pytest.TempPathFactory, kafka, registry) -> Feed:
    declared = load_feeds([feeds_directory])["crashes"]
    settings = home(tmp_path_factory.mktemp("producer"), feeds_directory, kafka, registry)
    produce_simulated_day(settings, declared, DAY, TRADES, 1, 10, [], datetime.now(UTC))
    return declared


def home(directory: Path, feeds_directory: Path, kafka, registry) -> Settings:
    return Settings(
        home=directory,
        feeds_dir=feeds_directory,
        kafka_bootstrap=kafka.bootstrap_servers,
        registry_url=registry.url,
    )


def catch_up_killed_at(point: str, settings: Settings) -> None:
    environment = {
        **os.environ,
        "K2_HOME": str(settings.home),
        "K2_FEEDS_DIR": str(settings.feeds_dir),
        "K2_KAFKA_BOOTSTRAP": settings.bootstrap_servers,
        "K2_REGISTRY_URL": settings.schema_registry_url,
        "K2_CRASH_AT": point,
    }
    command = [sys.executable, "-c", "from k2_cli.main import app; app()", "catch-up", "--feed", "crashes"]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -9, f"not killed at {point}: {killed.stdout[-500:]} {killed.stderr[-2000:]}"


def catch_up(settings: Settings, feed: Feed) -> None:
    """The next run, once the killed one's ranges and days have rested."""
    with local_instance(settings) as instance:
        done = catch_up_feed(settings, feed, instance, lambda: datetime.now(UTC) + timedelta(minutes=5))
        assert done.failed == 0
        assert instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []


def content(settings: Settings) -> Iterator[object]:
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    view = RawTable(catalog, "crashes").view()
    raw = view.read_day(DAY).to_pylist()
    yield sorted((row["kafka_partition"], row["kafka_offset"], row["trade_id"], row["price"]) for row in raw)
    yield view.rows, view.ledger.messages, view.ledger.covered
    for table in TABLES:
        yield DayTable(catalog, "crashes", table).read_day(DAY).to_pylist()


@pytest.fixture(scope="module")
def undisturbed(
    feed: Feed, feeds_directory: Path, tmp_path_factory: pytest.TempPathFactory, kafka, registry
) -> list[object]:
    settings = home(tmp_path_factory.mktemp("undisturbed"), feeds_directory, kafka, registry)
    catch_up(settings, feed)
    found = list(content(settings))
    assert found[1] == (TRADES, TRADES, found[1][2])  # type: ignore[index]
    return found


def survives(point: str, feed: Feed, settings: Settings, undisturbed: list[object]) -> None:
    catch_up_killed_at(point, settings)
    catch_up(settings, feed)
    assert list(content(settings)) == undisturbed


def test_a_run_killed_between_the_parquet_write_and_the_commit_loses_and_doubles_nothing(
    feed: Feed, feeds_directory: Path, tmp_path: Path, kafka, registry, undisturbed: list[object]
) -> None:
    survives("before_cas", feed, home(tmp_path, feeds_directory, kafka, registry), undisturbed)


def test_a_run_killed_after_the_commit_loses_and_doubles_nothing(
    feed: Feed, feeds_directory: Path, tmp_path: Path, kafka, registry, undisturbed: list[object]
) -> None:
    survives("after_cas", feed, home(tmp_path, feeds_directory, kafka, registry), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["polled", "decoded", "parquet_written", "after_commit", "after_event", "bars_half"])
def test_a_run_killed_anywhere_else_loses_and_doubles_nothing(
    point: str, feed: Feed, feeds_directory: Path, tmp_path: Path, kafka, registry, undisturbed: list[object]
) -> None:
    survives(point, feed, home(tmp_path, feeds_directory, kafka, registry), undisturbed)
