"""Data files that K2 writes itself, beside those that pyiceberg would write of the same rows."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from raw_deliveries import DAY, raw_row

from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.iceberg.day_files import append_files, write_day_files
from k2_resources.iceberg.day_rows import read_compactly, row_batches


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def appended(catalog: Catalog, feed: str, rows: pa.Table) -> Table:
    table = ensure_table(catalog, feed, "raw_trades", tables_of(KINDS)["raw_trades"])
    transaction = table.transaction()
    append_files(transaction, write_day_files(table.metadata, table.io, rows), {"k2.batch-id": "b"})
    transaction.commit_transaction()
    return catalog.load_table(table.name())


def by_pyiceberg(catalog: Catalog, feed: str, rows: pa.Table) -> Table:
    table = ensure_table(catalog, feed, "raw_trades", tables_of(KINDS)["raw_trades"])
    transaction = table.transaction()
    transaction.append(rows)
    transaction.commit_transaction()
    return catalog.load_table(table.name())


def found(table: Table) -> list[str]:
    return sorted(map(repr, table.scan().to_arrow().to_pylist()))


def files(table: Table) -> list[DataFile]:
    return sorted((task.file for task in table.scan().plan_files()), key=lambda file: repr(file.partition))


short = st.text(max_size=3)
said = st.fixed_dictionaries(
    {"trade_date": st.integers(0, 2).map(lambda days: DAY + timedelta(days=days))},
    optional={
        "symbol": st.none() | st.sampled_from(["BHP", "RIO", "CBA", "É" * 30]),
        "conditions": st.lists(st.sampled_from(["XT", "L3"]), max_size=2),
        "attributes": st.dictionaries(short, short, max_size=2).map(lambda each: [*each.items()]),
        "price": st.none() | st.decimals(0, 10**6, places=8),
        "reject_reason": st.none() | st.just("no schema"),
        "payload": st.none() | st.binary(max_size=9),
        "kafka_offset": st.integers(0, 2**62),
    },
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(said, min_size=1, max_size=20), st.uuids())
def test_hold_the_same_rows_on_the_same_days_with_the_same_bounds(
    catalog: Catalog, rows: list[dict[str, Any]], name: object
) -> None:
    batch = pa.Table.from_pylist([raw_row(0, **row) for row in rows], schema=RAW_TRADES)
    feed = f"f{str(name)[:13].replace('-', '')}"
    ours, theirs = appended(catalog, feed, batch), by_pyiceberg(catalog, f"{feed}x", batch)
    assert found(ours) == found(theirs)
    for our, their in zip(files(ours), files(theirs), strict=True):
        assert our.partition == their.partition
        assert our.record_count == their.record_count
        assert our.lower_bounds.items() <= their.lower_bounds.items()
        assert our.upper_bounds.items() <= their.upper_bounds.items()
        assert our.null_value_counts.items() <= their.null_value_counts.items()
        assert our.file_size_in_bytes == Path(our.file_path.removeprefix("file://")).stat().st_size


def test_days_symbols_and_offsets_have_bounds_so_that_files_without_them_are_passed_over(catalog: Catalog) -> None:
    table = appended(catalog, "asx", pa.Table.from_pylist([raw_row(n) for n in range(9)], schema=RAW_TRADES))
    [file] = files(table)
    bounded = {table.schema().find_column_name(each) for each in file.lower_bounds}
    assert bounded >= {"trade_date", "symbol", "exchange_timestamp", "kafka_partition", "kafka_offset"}


def test_the_files_carry_icebergs_field_ids(catalog: Catalog) -> None:
    table = appended(catalog, "asx", pa.Table.from_pylist([raw_row(0)], schema=RAW_TRADES))
    [file] = files(table)
    schema = pq.read_schema(file.file_path.removeprefix("file://"))
    ids = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in schema}
    assert ids == {field.name: field.field_id for field in table.schema().fields}


def test_without_rows_a_snapshot_comes_all_the_same(catalog: Catalog) -> None:
    table = appended(catalog, "asx", RAW_TRADES.empty_table())
    assert [snapshot.summary["k2.batch-id"] for snapshot in table.snapshots() if snapshot.summary] == ["b"]
    assert files(table) == []


def test_what_grows_is_written_as_differences_and_nearly_unique_texts_apart_from_their_lengths(
    catalog: Catalog,
) -> None:
    rows = pa.Table.from_pylist([raw_row(offset) for offset in range(100)], schema=RAW_TRADES)
    (file,) = files(appended(catalog, "asx", rows))
    columns = pq.read_metadata(file.file_path.removeprefix("file://")).row_group(0)
    encodings = {
        column.path_in_schema: set(column.encodings) - {"RLE"}
        for column in map(columns.column, range(columns.num_columns))
    }
    for name in ("kafka_offset", "sequence_number", "exchange_timestamp", "received_timestamp", "kafka_timestamp"):
        assert encodings[name] == {"DELTA_BINARY_PACKED"}
    for name in ("message_id", "trade_id", "payload"):
        assert encodings[name] == {"DELTA_LENGTH_BYTE_ARRAY"}
    assert "RLE_DICTIONARY" in encodings["symbol"]


@pytest.mark.parametrize("read_by", ["a whole day", "batches"])
def test_files_that_were_read_are_closed_though_reading_failed_and_nothing_is_collected(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, read_by: str
) -> None:
    table = appended(catalog, "asx", pa.Table.from_pylist([raw_row(n) for n in range(3)], schema=RAW_TRADES))
    tasks = list(table.scan().plan_files())

    def failing(*_: object, **__: object) -> object:
        raise OSError("the disk went away")

    for way in ("read", "iter_batches"):
        monkeypatch.setattr(pq.ParquetFile, way, failing)
    opened = Path("/proc/self/fd")
    before = len(list(opened.iterdir()))
    kept = []  # as a run's log keeps the last exception, and with it every frame
    for _ in range(20):
        try:
            if read_by == "batches":
                next(row_batches(table, DAY, tasks, RAW_TRADES))
            else:
                read_compactly(table, DAY, tasks, RAW_TRADES)
        except OSError as error:
            kept.append(error)
    assert len(kept) == 20
    assert len(list(opened.iterdir())) == before
