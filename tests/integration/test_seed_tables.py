"""Promises of the seed's decisions on tables (#002, #005), against a real catalog and real Iceberg files."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.transforms import IdentityTransform

from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import BARS, RAW_TRADES
from k2_resources.iceberg.catalog import find_table, open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.scan_files import day_files
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable

DAYS = [date(2014, 3, day) for day in (10, 11, 12)]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_in(tmp_path)


def catalog_in(directory: Path) -> Catalog:
    return open_catalog(f"sqlite:///{directory}/catalog.db", f"file://{directory}/warehouse")


def delivery(start: int, end: int, days: list[date]) -> Delivery:
    """Messages for offsets ``[start, end)``, dealt out to some days in turn."""
    rows = [
        {
            "trade_date": days[offset % len(days)],
            "symbol": "BHP" if offset % 2 else "RIO",
            "kafka_topic_id": "t",
            "kafka_partition": 0,
            "kafka_offset": offset,
        }
        for offset in range(start, end)
    ]
    covered = RangeSet.of([OffsetRange("t", 0, start, end)])
    return Delivery(pa.Table.from_pylist(rows, schema=RAW_TRADES), covered, {"t": "trades"}, "run")


def bars(day: date, count: int) -> pa.Table:
    nothing = {"volume": 0, "notional": 0, "priced_volume": 0, "trade_count": 1, "priced_count": 0}
    starts = [datetime(day.year, day.month, day.day, 10, minute, tzinfo=UTC) for minute in range(count)]
    rows = [{"trade_date": day, "symbol": "BHP", "bar_start": at, "bar_end": at, **nothing} for at in starts]
    return pa.Table.from_pylist(rows, schema=BARS)


def test_a_derived_day_is_one_file_however_often_it_was_built(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "ohlcv_1m")
    for rows in range(1, 8):
        for day in DAYS:
            table.replace_day(day, bars(day, rows), "run")

    found = table.files_by_day(DAYS)
    assert [(found[day].files, found[day].rows) for day in DAYS] == [(1, 7)] * 3


def test_an_ingest_commit_adds_one_file_to_each_day_that_it_has_rows_for(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    for number in range(4):
        table.commit(delivery(number * 30, number * 30 + 30, DAYS[:2]))
    table.commit(delivery(120, 150, DAYS[2:]))

    loaded = find_table(catalog, "asx", "raw_trades")
    assert [day_files(loaded, day).files for day in DAYS] == [4, 4, 1]
    assert [day_files(loaded, day).rows for day in DAYS] == [60, 60, 30]


def test_a_table_whose_partitions_change_is_read_and_written_on_without_a_rewrite(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 6, DAYS))
    before = {task.file.file_path for task in catalog.load_table("asx.raw_trades").scan().plan_files()}

    with catalog.load_table("asx.raw_trades").update_spec() as spec:
        spec.add_field("symbol", IdentityTransform(), "symbol")
    table.commit(delivery(6, 12, DAYS))

    after = {task.file.file_path for task in catalog.load_table("asx.raw_trades").scan().plan_files()}
    assert before < after
    for day in DAYS:
        offsets = table.view().read_day(day, "kafka_offset")["kafka_offset"].to_pylist()
        assert sorted(offsets) == [offset for offset in range(12) if DAYS[offset % 3] == day]


def test_after_a_restore_from_backup_what_came_since_is_pending_and_is_ingested_once(tmp_path: Path) -> None:
    table = RawTable(catalog_in(tmp_path), "asx", TRADES)
    table.commit(delivery(0, 6, DAYS))
    with (
        closing(sqlite3.connect(tmp_path / "catalog.db")) as live,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        live.backup(backup)
    table.commit(delivery(6, 12, DAYS))

    shutil.copy(tmp_path / "backup.db", tmp_path / "catalog.db")
    restored = RawTable(catalog_in(tmp_path), "asx", TRADES)

    assert (restored.view().rows, len(restored.ledger().covered)) == (6, 6)
    restored.commit(delivery(0, 12, DAYS))
    assert (restored.view().rows, len(restored.ledger().covered)) == (12, 12)
