"""The maintenance of a feed's tables: day after day, with tags that stay readable, by command and by Dagster's job."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Transaction
from raw_deliveries import delivered
from typer.testing import CliRunner

from k2_assets.maintenance import maintenance_figures
from k2_cli.main import app
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.plans.build_plan import GRACE
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.table_errors import CatalogUnavailable
from k2_resources.maintenance import day_tagging
from k2_resources.maintenance.day_tagging import tag_day
from k2_resources.maintenance.feed_maintenance import FeedMaintenance, MaintenanceResult
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.query.views import SnapshotNotKept, snapshot_as_of, snapshot_of_day
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors.session_close_sensors import BUILD_TIME, maintain_after_close

MONDAY = date(2014, 3, 10)
TABLE = ("asx", "raw_trades")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")


@pytest.fixture
def feed(settings: Settings) -> Feed:
    return load_feeds(settings.feed_directories)["asx"]


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)


def commit(catalog: Catalog, start: int, count: int = 3, day: date = MONDAY) -> None:
    RawTable(catalog, "asx", TRADES).commit(delivered(start, start + count, day=day))


def maintained(catalog: Catalog, feed: Feed, day: date, after: timedelta = BUILD_TIME) -> MaintenanceResult:
    """Maintain the feed some time after a day has closed."""
    now = TradingCalendar.of(feed).closes_at(day) + GRACE + after
    return FeedMaintenance(catalog, feed, TRADES, lambda: now).carry_out(day)


def trading_days(feed: Feed, count: int) -> list[date]:
    calendar, days = TradingCalendar.of(feed), [MONDAY]
    while len(days) < count:
        days.append(calendar.next_trading_day(days[-1]))
    return days


def rows_of(catalog: Catalog, snapshot_id: int) -> int:
    return catalog.load_table(TABLE).scan(snapshot_id=snapshot_id).to_arrow().num_rows


def k2(settings: Settings, *arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, env=settings.environment_variables())


def test_day_after_day_the_end_of_each_stays_readable_and_commits_have_no_more_to_carry(
    catalog: Catalog, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_market.plans.day_tags.KEPT_DAYS", 4)
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", 3)
    days = trading_days(feed, 8)
    for number, day in enumerate(days):
        for part in range(4):
            commit(catalog, number * 12 + part * 3, day=day)
        done = maintained(catalog, feed, day)
        assert (done.before.files, done.after.files) == (number + 4, number + 1)
        assert done.tags["raw_trades"].added == f"day-{day}"
    table = catalog.load_table(TABLE)
    assert {name for name in table.metadata.refs if name != "main"} == {f"day-{day}" for day in days[-4:]}
    assert len(table.metadata.snapshots) <= 3 + 4
    for number, day in enumerate(days[-4:], start=4):
        assert rows_of(catalog, snapshot_of_day(table, day)) == 12 * (number + 1)
    with pytest.raises(SnapshotNotKept, match=f"no tag day-{days[0]}"):
        snapshot_of_day(table, days[0])
    assert prove_ledger(table, TRADES, None, None).holds


def test_a_moment_between_a_tagged_state_and_the_next_one_kept_is_refused_and_not_answered_wrongly(
    catalog: Catalog, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", 3)
    commit(catalog, 0)
    maintained(catalog, feed, MONDAY)
    for number in range(1, 7):
        commit(catalog, number * 3, day=MONDAY + timedelta(days=1))
    table = catalog.load_table(TABLE)
    tagged = table.snapshot_by_id(snapshot_of_day(table, MONDAY))
    assert tagged is not None
    with pytest.raises(SnapshotNotKept, match=r"or for the end of a trading day \(kept of 2014-03-10\)"):
        snapshot_as_of(table, datetime.fromtimestamp(tagged.timestamp_ms / 1000, UTC) + timedelta(milliseconds=1))
    assert snapshot_as_of(table, datetime.now(UTC)) == table.metadata.current_snapshot_id
    assert snapshot_as_of(table, datetime(2020, 1, 1, tzinfo=UTC)) is None


def test_a_day_that_is_not_the_latest_to_have_closed_is_compacted_and_not_tagged(catalog: Catalog, feed: Feed) -> None:
    for number in range(3):
        commit(catalog, number * 3)
    done = maintained(catalog, feed, MONDAY, after=timedelta(days=2))
    assert done.after.files == 1
    assert done.tags["raw_trades"].added is None


def test_an_ingest_between_looking_and_tagging_is_in_the_state_that_is_tagged(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(catalog, 0)
    commit_transaction = Transaction.commit_transaction

    def overtaken(transaction: Transaction) -> Any:
        monkeypatch.setattr(Transaction, "commit_transaction", commit_transaction)
        commit(catalog, 3)
        return commit_transaction(transaction)

    monkeypatch.setattr(Transaction, "commit_transaction", overtaken)
    tag_day(catalog, "asx", "raw_trades", MONDAY)
    table = catalog.load_table(TABLE)
    assert rows_of(catalog, snapshot_of_day(table, MONDAY)) == 6
    assert RawTable(catalog, "asx", TRADES).view().rows == RawTable(catalog, "asx", TRADES).ledger().messages == 6
    assert prove_ledger(table, TRADES, None, None).holds


def test_a_tag_that_others_overtake_again_and_again_says_so(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(catalog, 0)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)

    def refused(_: Transaction) -> None:
        raise CommitFailedException("updated by another process")

    monkeypatch.setattr(day_tagging, "TableTransaction", lambda table: _Refused(table, refused))
    with pytest.raises(CatalogUnavailable, match=r"asx\.raw_trades: the end of 2014-03-10 was not tagged"):
        tag_day(catalog, "asx", "raw_trades", MONDAY)


class _Refused(Transaction):
    """A transaction that is refused."""

    def __init__(self, table: Any, refused: Any) -> None:
        super().__init__(table)
        self._refused = refused

    def commit_transaction(self) -> Any:
        return self._refused(self)


def test_a_table_of_an_earlier_version_gets_the_properties_that_it_lacks_and_keeps_its_own(
    catalog: Catalog, feed: Feed
) -> None:
    commit(catalog, 0)
    with catalog.load_table(TABLE).transaction() as earlier:
        earlier.remove_properties("commit.manifest.target-size-bytes")
        earlier.set_properties({"write.metadata.previous-versions-max": "20"})
    said = maintenance_figures(maintained(catalog, feed, MONDAY))
    assert said["properties_set"] == {"raw_trades": {"commit.manifest.target-size-bytes": "65536"}}
    assert maintenance_figures(maintained(catalog, feed, MONDAY))["properties_set"] == {}
    properties = catalog.load_table(TABLE).properties
    assert properties["commit.manifest.target-size-bytes"] == "65536"
    assert properties["write.metadata.previous-versions-max"] == "20"


def test_the_command_shows_what_there_is_to_do_and_then_does_it(settings: Settings, catalog: Catalog) -> None:
    for number in range(3):
        commit(catalog, number * 3)
    ask = ("maintain", "--feed", "asx", "--date", str(MONDAY), "--json")
    planned = json.loads(k2(settings, *ask, "--dry-run").stdout)
    assert (planned["days_to_compact"], planned["files_to_replace"], planned["files_to_write"]) == ([str(MONDAY)], 3, 1)
    done = json.loads(k2(settings, *ask).stdout)
    assert (done["files_before"], done["files_after"], done["rows_rewritten"]) == (3, 1, 9)
    shown = k2(settings, *ask[:-1], "--dry-run").stdout
    assert re.search(r"files to replace +0\n", shown)


def test_sql_shows_the_tables_as_they_were_at_the_end_of_a_day(
    settings: Settings, catalog: Catalog, feed: Feed
) -> None:
    commit(catalog, 0)
    maintained(catalog, feed, MONDAY)
    commit(catalog, 3)
    count = ("sql", "SELECT count(*) AS n FROM asx.raw_trades", "--format", "csv")
    assert k2(settings, *count).stdout == "n\n6\n"
    assert k2(settings, *count, "--as-of-day", str(MONDAY)).stdout == "n\n3\n"
    refused = k2(settings, *count, "--as-of-day", "2014-03-11")
    assert refused.exit_code == 1
    assert "no tag day-2014-03-11. Kept are the ends of 2014-03-10" in refused.stderr


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


def test_dagsters_job_maintains_reports_and_makes_no_day_stale(
    settings: Settings, catalog: Catalog, feed: Feed, instance: DagsterInstance
) -> None:
    for number in range(3):
        commit(catalog, number * 3)
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def("asx_maintenance")
    result = job.execute_in_process(instance=instance, partition_key=str(MONDAY))
    (event,) = result.asset_materializations_for_node("asx__maintenance")
    said = {name: value.value for name, value in event.metadata.items()}
    assert (said["files_before"], said["files_after"], said["compacted_days"]) == (3, 1, 1)
    assert {"manifests_before", "manifests_after", "snapshots_after", "files_removed", "tags_set"} <= said.keys()
    assert not instance.get_materialized_partitions(dg.AssetKey(["asx", "raw_trades"]))


@pytest.mark.parametrize(
    ("calendar_name", "zone", "first", "count"),
    [
        ("XASX", "Australia/Sydney", date(2013, 12, 23), 4),  # the day after is a half day
        ("XNYS", "America/New_York", date(2026, 11, 25), 3),  # Thanksgiving, then a half day
        ("XTKS", "Asia/Tokyo", date(2024, 11, 1), 3),  # closes at 15:00, and at 15:30 from the 5th on
        ("CMES", "America/Chicago", date(2026, 11, 25), 3),
    ],
)
def test_the_end_of_every_session_is_tagged_whenever_it_closes(
    catalog: Catalog, settings: Settings, feed: Feed, calendar_name: str, zone: str, first: date, count: int
) -> None:
    declared = feed.model_copy(update={"calendar": calendar_name, "timezone": zone, "start_date": first})
    calendar, days = TradingCalendar.of(declared), [first]
    while len(days) < count:
        days.append(calendar.next_trading_day(days[-1]))
    for number, day in enumerate(days):
        commit(catalog, number * 10, day=day)
    iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    now, cursor, tagged = calendar.closes_at(first), None, []
    while now < calendar.closes_at(days[-1]) + timedelta(hours=3):
        result = maintain_after_close(declared, TRADES, iceberg, now, cursor)
        cursor = result.cursor
        for request in result.run_requests or ():
            day, moment = date.fromisoformat(str(request.partition_key)), now
            done = FeedMaintenance(catalog, declared, TRADES, lambda moment=moment: moment).carry_out(day)
            tagged += [day] if done.tags["raw_trades"].added else []
        now += timedelta(minutes=15)
    assert [day for day in tagged if day in days] == days
