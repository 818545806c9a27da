"""A day on its way into a derived table: seen when it is published and not before, read back as it was written."""

import threading
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import StringType
from raw_deliveries import delivered

from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_market.schemas.tables import TRADES
from k2_resources.iceberg import day_rows
from k2_resources.iceberg.catalog import TableMismatch, find_table, open_catalog
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.scan_files import day_paths
from k2_resources.query.views import open_query_connection
from k2_resources.raw.table import RawTable

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (date(2014, 3, day) for day in range(10, 14))
SYMBOLS = ["ANZ", "BHP", "CBA", "RIO"]
TRADES_A_SYMBOL = 50_000


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def trades(day: date, symbol: str = "BHP", count: int = 3) -> pa.Table:
    opens = datetime(day.year, day.month, day.day, tzinfo=UTC)
    same = {"trade_date": day, "symbol": symbol, "sequence_number": None, "price": Decimal("10.5"), "side": "BUY"}
    same |= {"quantity": Decimal(1), "conditions": ["XT"], "currency": "AUD", "price_eligible": True}
    same |= {"volume_eligible": True, "corrected": False, "kafka_topic_id": "t", "kafka_partition": 0}
    rows = [
        {**same, "exchange_timestamp": opens + timedelta(seconds=n), "trade_id": f"{n}", "kafka_offset": n}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=TRADES)


def data_files(catalog: Catalog) -> set[str]:
    table = find_table(catalog, "asx", "trades")
    assert table is not None
    directory = Path(table.location().removeprefix("file://")) / "data"
    return {f"file://{path}" for path in directory.rglob("*.parquet")}


def paths(catalog: Catalog, day: date) -> frozenset[str]:
    table = find_table(catalog, "asx", "trades")
    assert table is not None
    return day_paths(table, day)


def stage_and_fail(table: DayTable) -> None:
    with table.stager([MONDAY]) as stager, stager.stage(MONDAY) as staged:
        staged.add(trades(MONDAY))
        raise ArithmeticError


def reader(catalog: Catalog, name: str = "trades") -> DayReader:
    return DayReader(catalog.load_table(f"asx.{name}"), tables_of(KINDS)[name], [MONDAY])


def test_a_staged_day_is_seen_when_it_is_published_and_not_before(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    with table.stager([MONDAY]) as stager, stager.stage(MONDAY) as staged:
        staged.add(trades(MONDAY, "ANZ"))
        staged.add(trades(MONDAY, "BHP"))
        assert table.read_day(MONDAY).num_rows == 0
        assert table.publish([staged], "run")[staged.day].changed

    assert table.read_day(MONDAY).equals(pa.concat_tables([trades(MONDAY, "ANZ"), trades(MONDAY, "BHP")]))
    assert data_files(catalog) == paths(catalog, MONDAY)


def test_a_staged_day_that_is_not_published_leaves_nothing(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    with table.stager([MONDAY]) as stager, stager.stage(MONDAY) as staged:
        staged.add(trades(MONDAY))
    with pytest.raises(ArithmeticError):
        stage_and_fail(table)

    assert table.read_day(MONDAY).num_rows == 0
    assert data_files(catalog) == set()


@pytest.mark.parametrize("cut", [0, 1, 5, 6])
def test_the_same_rows_again_in_other_parts_change_nothing(catalog: Catalog, cut: int) -> None:
    table, rows = DayTable(catalog, "asx", "trades"), trades(MONDAY, count=6)
    first = table.replace_day(MONDAY, rows, "run")
    with table.stager([MONDAY]) as stager, stager.stage(MONDAY) as staged:
        staged.add(rows.slice(0, cut))
        staged.add(rows.slice(cut))
        again = table.publish([staged], "run")[staged.day]

    assert (first.changed, again.changed, again.snapshot_id) == (True, False, first.snapshot_id)
    assert data_files(catalog) == paths(catalog, MONDAY)


@pytest.mark.parametrize("rows", [trades(MONDAY, count=5), trades(MONDAY, count=7), trades(MONDAY, "RIO", 6)])
def test_other_rows_take_the_place_of_the_day_and_of_no_other(catalog: Catalog, rows: pa.Table) -> None:
    table = DayTable(catalog, "asx", "trades")
    table.replace_day(MONDAY, trades(MONDAY, count=6), "run")
    table.replace_day(TUESDAY, trades(TUESDAY), "run")

    assert table.replace_day(MONDAY, rows, "run").changed
    assert table.read_day(MONDAY).equals(rows)
    assert table.read_day(TUESDAY).equals(trades(TUESDAY))


def test_no_rows_empty_the_day(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    assert not table.replace_day(MONDAY, TRADES.empty_table(), "run").changed
    table.replace_day(MONDAY, trades(MONDAY), "run")

    assert table.replace_day(MONDAY, TRADES.empty_table(), "run").changed
    assert table.read_day(MONDAY).num_rows == 0
    assert paths(catalog, MONDAY) == frozenset()


def test_many_days_are_written_by_one_thread(catalog: Catalog) -> None:
    days = [MONDAY + timedelta(days=number) for number in range(12)]
    threads = threading.active_count()
    with DayTable(catalog, "asx", "trades").stager(days) as stager, ExitStack() as stack:
        for day in days:
            stack.enter_context(stager.stage(day)).add(trades(day))
        assert threading.active_count() == threads + 1


def test_days_published_together_are_one_change_and_each_is_told_of_by_itself(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    table.replace_day(MONDAY, trades(MONDAY, count=6), "run")
    table.replace_day(TUESDAY, trades(TUESDAY, count=3), "run")
    rows = {MONDAY: trades(MONDAY, count=6), TUESDAY: trades(TUESDAY, "RIO", 4), WEDNESDAY: trades(WEDNESDAY)}
    days = (*rows, THURSDAY)
    with table.stager(days) as stager, ExitStack() as stack:
        staged = [stack.enter_context(stager.stage(day)) for day in days]
        for each in staged[:-1]:
            each.add(rows[each.day])
        published = table.publish(staged, "run")

    assert {day: each.changed for day, each in published.items()} == {
        MONDAY: False, TUESDAY: True, WEDNESDAY: True, THURSDAY: False,
    }  # fmt: skip
    assert published[TUESDAY].snapshot_id == published[WEDNESDAY].snapshot_id
    assert all(table.read_day(day).equals(rows[day]) for day in rows)
    found = table.files_by_day([*rows, THURSDAY])
    assert {day: (files.files, files.rows) for day, files in found.items()} == {
        MONDAY: (1, 6), TUESDAY: (1, 4), WEDNESDAY: (1, rows[WEDNESDAY].num_rows), THURSDAY: (0, 0),
    }  # fmt: skip
    assert len(data_files(catalog)) == 4  # the three of now, and the one that Tuesday had before


def test_a_table_that_was_given_other_partitions_takes_no_day_and_says_why(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    table.replace_day(MONDAY, trades(MONDAY), "run")
    with catalog.load_table("asx.trades").update_spec() as spec:
        spec.add_field("symbol", IdentityTransform(), "symbol")
    with pytest.raises(TableMismatch, match=r"asx\.trades: its partitions are .*, expected a trading day each"):
        table.replace_day(TUESDAY, trades(TUESDAY), "run")


def test_a_commit_that_landed_unseen_is_not_made_again(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    with table.stager([MONDAY]) as stager, stager.stage(MONDAY) as staged:
        staged.add(trades(MONDAY))
        staged.end()
        landed = table._attempt([staged], "monday", "run", {}, {})[MONDAY]
        again = table._attempt([staged], "monday", "run", {}, {})[MONDAY]

    assert (landed.changed, again.changed, again.snapshot_id) == (True, True, landed.snapshot_id)
    assert table.read_day(MONDAY).equals(trades(MONDAY))
    assert data_files(catalog) == paths(catalog, MONDAY)


def test_a_day_of_ours_is_read_without_pyicebergs_reader(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    DayTable(catalog, "asx", "trades").replace_day(MONDAY, trades(MONDAY), "run")
    RawTable(catalog, "asx", TRADES_KIND).commit(delivered(0, 5, day=MONDAY))
    monkeypatch.delattr(day_rows, "_by_pyiceberg")

    for name, rows in (("trades", 3), ("raw_trades", 5)):
        assert reader(catalog, name).read_day_compactly(MONDAY).num_rows == rows


def test_a_day_is_read_the_same_in_little_memory_in_batches_and_by_pyiceberg(catalog: Catalog) -> None:
    table = DayTable(catalog, "asx", "trades")
    table.replace_day(MONDAY, trades(MONDAY, count=20), "run")
    loaded = catalog.load_table("asx.trades")

    compact = reader(catalog).read_day_compactly(MONDAY)
    assert pa.types.is_dictionary(compact.schema.field("symbol").type)
    assert compact.cast(TRADES).equals(trades(MONDAY, count=20))
    assert pa.concat_tables(reader(catalog).day_batches(MONDAY)).equals(trades(MONDAY, count=20))
    assert loaded.scan().to_arrow().cast(TRADES).equals(trades(MONDAY, count=20))


def test_a_column_that_the_table_got_later_is_read_as_empty_from_older_files(catalog: Catalog) -> None:
    DayTable(catalog, "asx", "trades").replace_day(MONDAY, trades(MONDAY), "run")
    with catalog.load_table("asx.trades").update_schema() as update:
        update.add_column("venue", StringType())
        update.rename_column("side", "aggressor")
    schema = pa.schema([pa.field("aggressor", pa.string()), pa.field("venue", pa.string())])

    found = DayReader(catalog.load_table("asx.trades"), schema, [MONDAY]).read_day_compactly(MONDAY)

    assert found.to_pylist() == [{"aggressor": "BUY", "venue": None}] * 3


def test_a_symbols_trades_are_in_the_row_groups_of_its_name_alone(catalog: Catalog, tmp_path: Path) -> None:
    table = DayTable(catalog, "asx", "trades")
    for day in (MONDAY, TUESDAY):
        with table.stager([day]) as stager, stager.stage(day) as staged:
            for symbol in SYMBOLS:
                staged.add(trades(day, symbol, TRADES_A_SYMBOL))
            table.publish([staged], "run")

    (path,) = paths(catalog, MONDAY)
    metadata = pq.read_metadata(path.removeprefix("file://"))
    groups = [metadata.row_group(number).column(1).statistics for number in range(metadata.num_row_groups)]
    assert [(group.min, group.max) for group in groups] == [(symbol, symbol) for symbol in SYMBOLS]
    with open_query_connection(catalog, ["asx"], tables_of(KINDS), spill_directory=tmp_path / "spill") as connection:
        sql = "SELECT * FROM asx.trades WHERE trade_date = $day AND symbol = $symbol"
        plan = connection.execute(f"EXPLAIN ANALYZE {sql}", {"day": str(MONDAY), "symbol": "BHP"}).fetchall()[0][1]
    assert "Total Files Read: 1" in plan
