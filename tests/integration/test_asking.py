"""Asking, from a real catalog to the words on the screen."""

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bar_rows import bar, bar_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table
from pyiceberg.types import StringType
from typer.testing import CliRunner, Result

from k2_cli.main import app
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.schemas.tables import PRICE, QUANTITY, RAW_TRADES, TRADES
from k2_resources.dagster.duckdb_resource import QueryResource
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.query.views import SnapshotNotKept, open_query_connection, scan_sql, snapshot_as_of

FEEDS = ("asx", "sim")
FIRST_DAY = date(2014, 3, 10)
NAMED_IN_A_PLAN = 5
"""Files that DuckDB names in a plan; of more it gives the number."""
DAYS = [FIRST_DAY + timedelta(days=number) for number in range(10)]
LATER_DAY = date(2014, 3, 25)


@dataclass(frozen=True)
class Home:
    """A K2_HOME, whose path needs quoting."""

    path: Path

    @property
    def catalog(self) -> Catalog:
        """The catalog where the command line looks for it."""
        return open_catalog(f"sqlite:///{self.path / 'catalog.db'}", f"file://{self.path / 'warehouse'}")

    def table(self, feed: str, name: str) -> Table:
        """A table, made if it is not there."""
        return ensure_table(self.catalog, feed, name, tables_of(KINDS)[name])

    def connect(self, **options: Any) -> duckdb.DuckDBPyConnection:
        """A connection with views of two feeds."""
        return open_query_connection(
            self.catalog, FEEDS, tables_of(KINDS), spill_directory=self.path / "spill", **options
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with nothing in it, for one test."""
    home = Home(tmp_path / "o'brien's home")
    home.path.mkdir()
    monkeypatch.setenv("K2_HOME", str(home.path))
    return home


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One-minute bars of two symbols on ten days, each committed on its own, and of a third one later."""
    home = Home(tmp_path_factory.mktemp("ten days") / "o'brien's home")
    table = home.table("asx", "ohlcv_1m")
    for day in DAYS:
        table.append(bar_table([bar(minute, day, symbol=symbol) for symbol in ("BHP", "RIO") for minute in range(3)]))
    table.append(bar_table([bar(0, LATER_DAY, symbol="NEW")]))
    return home


@pytest.fixture
def ten_days(written_once: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with ten days in it, which tests only read."""
    monkeypatch.setenv("K2_HOME", str(written_once.path))
    return written_once


# Which tables there are.


def test_every_table_of_every_feed_can_be_asked_before_anything_is_written(home: Home) -> None:
    with home.connect() as connection:
        for feed in FEEDS:
            for table, schema in tables_of(KINDS).items():
                answer = connection.execute(f"SELECT * FROM {feed}.{table}").to_arrow_table()
                assert answer.schema.names == schema.names
                assert answer.num_rows == 0
                assert connection.execute(f"SELECT count(*) FROM all_feeds.{table}").fetchall() == [(0,)]


def test_an_empty_view_has_the_same_types_as_a_table_with_rows(home: Home) -> None:
    home.table("asx", "raw_trades").append(raw([raw_trade(0)]))
    with home.connect() as connection:
        written, empty = (connection.sql(f"SELECT * FROM {feed}.raw_trades").types for feed in FEEDS)
    assert written == empty


def test_a_table_without_a_snapshot_is_empty(home: Home) -> None:
    home.table("asx", "trades")
    with home.connect() as connection:
        assert connection.execute("SELECT * FROM asx.trades").to_arrow_table().schema.names == TRADES.names


def test_all_feeds_holds_every_feed_s_rows_with_its_name_in_front(home: Home) -> None:
    for feed, symbol in (("asx", "BHP"), ("sim", "AAA")):
        home.table(feed, "ohlcv_1d").append(bar_table([bar(0, symbol=symbol)]))
    with home.connect() as connection:
        rows = connection.execute("SELECT * FROM all_feeds.ohlcv_1d ORDER BY feed").to_arrow_table()
    assert rows.schema.names[0] == "feed"
    assert [(row["feed"], row["symbol"]) for row in rows.to_pylist()] == [("asx", "BHP"), ("sim", "AAA")]


def test_feeds_of_different_age_have_their_columns_put_together_by_name(home: Home) -> None:
    add_column(home, "asx", "ohlcv_1d", "auction_volume")
    home.table("sim", "ohlcv_1d").append(bar_table([bar(0, symbol="AAA")]))
    with home.connect() as connection:
        rows = connection.execute("SELECT symbol, auction_volume FROM all_feeds.ohlcv_1d").fetchall()
    assert rows == [("AAA", None)]


def test_only_the_views_that_a_statement_names_are_made(ten_days: Home) -> None:
    with ten_days.connect(tables={("all_feeds", "ohlcv_1m")}) as connection:
        assert views(connection) == {"asx.ohlcv_1m", "sim.ohlcv_1m", "all_feeds.ohlcv_1m"}
    with ten_days.connect(tables={("asx", "ohlcv_1m")}) as connection:
        assert views(connection) == {"asx.ohlcv_1m"}
    with ten_days.connect(tables={("asx", "ohlcv_1m"), ("", "duckdb_tables")}) as connection:
        assert len(views(connection)) == 3 * len(tables_of(KINDS))


# What is the same on the way there and back (001.2, 001.3, 001.8).


def decimals(kind: pa.Decimal128Type) -> st.SearchStrategy[Decimal]:
    """All that a column of this type can hold."""
    return st.integers(-(10**kind.precision) + 1, 10**kind.precision - 1).map(
        lambda units: Decimal(units).scaleb(-kind.scale)
    )


moments = st.datetimes(datetime(1970, 1, 1), datetime(2262, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


@pytest.mark.filterwarnings("ignore:Delete operation did not match any records")  # the first example's table is empty
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(decimals(PRICE), decimals(QUANTITY), moments), min_size=1, max_size=30))
def test_decimals_and_timestamps_come_back_as_they_were_written(
    home: Home, values: list[tuple[Decimal, Decimal, datetime]]
) -> None:
    written = raw(
        raw_trade(offset, price=price, quantity=quantity, exchange_timestamp=at)
        for offset, (price, quantity, at) in enumerate(values)
    )
    home.table("asx", "raw_trades").overwrite(written)
    with home.connect(tables={("asx", "raw_trades")}) as connection:
        read = connection.execute("SELECT * FROM asx.raw_trades ORDER BY kafka_offset").to_arrow_table()
    assert read.cast(RAW_TRADES).to_pylist() == written.to_pylist()


def test_the_largest_and_the_smallest_numbers_come_back(home: Home) -> None:
    largest, smallest = (Decimal(units).scaleb(-PRICE.scale) for units in (10**PRICE.precision - 1, 1))
    extremes = [
        (largest, datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
        (-largest, datetime(1, 1, 1, tzinfo=UTC)),
        (smallest, datetime(1970, 1, 1, tzinfo=UTC)),
    ]
    rows = raw(raw_trade(n, price=price, exchange_timestamp=at) for n, (price, at) in enumerate(extremes))
    home.table("asx", "raw_trades").append(rows)
    with home.connect() as connection:
        sql = "SELECT price, exchange_timestamp FROM asx.raw_trades ORDER BY kafka_offset"
        read = connection.execute(sql).to_arrow_table()
    assert [tuple(row.values()) for row in read.to_pylist()] == extremes
    assert pa.types.is_decimal(read.schema.field("price").type)


@pytest.mark.filterwarnings("ignore:Iceberg scan planning with the polars_iceberg plugin")
def test_other_engines_read_the_same_rows(ten_days: Home) -> None:
    table = ten_days.catalog.load_table("asx.ohlcv_1m")
    with ten_days.connect() as connection:
        by_duckdb = connection.execute("SELECT * FROM asx.ohlcv_1m ORDER BY bar_start, symbol").to_arrow_table()
    order = [("bar_start", "ascending"), ("symbol", "ascending")]
    by_polars = pl.scan_iceberg(table).sort("bar_start", "symbol").collect().to_arrow()
    by_pyiceberg = table.scan().to_arrow().sort_by(order)
    assert by_duckdb.to_pylist() == by_polars.to_pylist() == by_pyiceberg.to_pylist()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert by_duckdb.num_rows == int(snapshot.summary["total-records"] or "0") == 61


def test_an_added_and_a_renamed_column_are_read_over_old_and_new_files(home: Home) -> None:
    home.table("asx", "ohlcv_1m").append(bar_table([bar(0)]))
    add_column(home, "asx", "ohlcv_1m", "venue")
    table = home.catalog.load_table("asx.ohlcv_1m")
    newer = bar_table([bar(1)])
    table.append(newer.append_column("venue", pa.array(["XASX"])))
    with table.update_schema() as update:
        update.rename_column("trade_count", "trades")
    with home.connect() as connection:
        rows = connection.execute("SELECT venue, trades FROM asx.ohlcv_1m ORDER BY bar_start").fetchall()
    assert rows == [(None, 1), ("XASX", 1)]


# What is not read (001.5, 002.2 - 002.4).


@pytest.mark.parametrize(
    ("condition", "days"),
    [
        ("trade_date = DATE '2014-03-12'", ["2014-03-12"]),
        ("trade_date = $day", ["2014-03-12"]),
        ("trade_date BETWEEN '2014-03-12' AND '2014-03-14'", ["2014-03-12", "2014-03-13", "2014-03-14"]),
        ("bar_start >= '2014-03-12 00:00:00+00' AND bar_start < '2014-03-13 00:00:00+00'", ["2014-03-12"]),
        ("bar_start = $day", ["2014-03-12"]),
        ("symbol = 'ZZZ'", []),
        ("symbol < 'M'", [str(day) for day in DAYS]),
        ("true", [*map(str, DAYS), str(LATER_DAY)]),
    ],
)
@pytest.mark.parametrize("view", ["asx.ohlcv_1m", "all_feeds.ohlcv_1m"])
def test_a_question_about_a_day_reads_that_day_s_files_only(
    ten_days: Home, view: str, condition: str, days: list[str]
) -> None:
    values = {"day": "2014-03-12"} if "$day" in condition else {}
    with ten_days.connect() as connection:
        files, named = files_read(connection, f"SELECT sum(volume) FROM {view} WHERE {condition}", values)
    assert files == len(days)
    assert named <= set(days)
    assert len(named) == min(files, NAMED_IN_A_PLAN)


def test_the_layout_names_the_exchange_s_date(ten_days: Home) -> None:
    table = ten_days.catalog.load_table("asx.ohlcv_1m")
    (field,) = table.spec().fields
    assert (field.name, str(field.transform)) == ("exchange_date", "day")
    files = [task.file.file_path for task in table.scan(row_filter=EqualTo("trade_date", "2014-03-12")).plan_files()]  # type: ignore[call-arg]
    assert len(files) == 1
    assert "/data/exchange_date=2014-03-12/" in files[0]


# What can't be done.


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{home}/new.csv'",
        "SELECT * FROM read_text('{home}/catalog.db')",
        "SELECT * FROM '{home}/spill/x.csv'",
        "SELECT * FROM iceberg_scan('{home}/other')",
    ],
)
def test_a_connection_reaches_the_tables_and_nothing_else(ten_days: Home, sql: str) -> None:
    (ten_days.path / "spill").mkdir(exist_ok=True)
    (ten_days.path / "spill" / "x.csv").write_text("a\n1\n")
    with ten_days.connect() as connection, pytest.raises(duckdb.PermissionException):
        connection.execute(sql.format(home=str(ten_days.path).replace("'", "''")))
    assert not (ten_days.path / "new.csv").exists()


def test_the_command_writes_nothing_into_the_tables_own_directories(ten_days: Home) -> None:
    before = sorted((ten_days.path / "warehouse").rglob("*"))
    inside = str(ten_days.path / "warehouse" / "asx" / "ohlcv_1m").replace("'", "''")
    for attempt in (
        f"COPY (SELECT 1) TO '{inside}/new.csv'",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{inside}/new.csv'",
        f"SELECT * FROM enable_logging(storage = 'file', storage_path = '{inside}/logs')",
    ):
        assert k2("sql", attempt).exit_code == 1
    assert sorted((ten_days.path / "warehouse").rglob("*")) == before


# How it was (001.7).


def test_a_table_is_seen_as_it_was_before_an_append_and_before_a_correction(home: Home) -> None:
    table = home.table("asx", "ohlcv_1d")
    before = now()
    table.append(bar_table([bar(0, price=Decimal(10))]))
    appended = now()
    table.overwrite(bar_table([bar(0, price=Decimal(11))]))
    corrected = now()

    def price(as_of: datetime) -> list[tuple[Any, ...]]:
        with home.connect(as_of=as_of) as connection:
            return connection.execute("SELECT close FROM asx.ohlcv_1d").fetchall()

    assert price(before) == []
    assert price(appended) == [(Decimal(10),)]
    assert price(corrected) == [(Decimal(11),)]


def test_a_snapshot_can_be_read_by_its_id(home: Home) -> None:
    table = home.table("asx", "ohlcv_1d")
    table.append(bar_table([bar(0)]))
    first = table.current_snapshot()
    assert first is not None
    table.append(bar_table([bar(1)]))
    with home.connect() as connection:
        counted = [
            connection.execute(f"SELECT count(*) FROM {scan_sql(table, snapshot_id)}").fetchall()
            for snapshot_id in (first.snapshot_id, None)
        ]
    assert counted == [[(1,)], [(2,)]]


def test_a_moment_before_the_oldest_kept_snapshot_is_refused(home: Home) -> None:
    table = home.table("asx", "ohlcv_1d")
    table.append(bar_table([bar(0)]))
    first = table.current_snapshot()
    assert first is not None
    then = now()
    table.append(bar_table([bar(1)]))
    table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    with pytest.raises(SnapshotNotKept, match=r"asx.ohlcv_1d: no snapshot of .* The next one kept is of"):
        snapshot_as_of(home.catalog.load_table("asx.ohlcv_1d"), then)


# The Dagster resource.


def test_the_dagster_resource_hands_out_the_same_views(ten_days: Home) -> None:
    resource = QueryResource(
        catalog=IcebergCatalogResource(
            uri=f"sqlite:///{ten_days.path / 'catalog.db'}", warehouse=f"file://{ten_days.path / 'warehouse'}"
        ),
        spill_directory=str(ten_days.path / "spill"),
    )
    with resource.query_connection(FEEDS) as connection:
        assert connection.execute("SELECT count(*) FROM asx.ohlcv_1m").fetchall() == [(61,)]
        with pytest.raises(duckdb.PermissionException):
            connection.execute("SELECT * FROM read_text('/etc/hostname')")


# k2 sql.


def test_sql_answers_in_every_format(ten_days: Home, tmp_path: Path) -> None:
    question = "SELECT symbol, sum(volume) AS volume FROM asx.ohlcv_1m WHERE trade_date = $day GROUP BY 1 ORDER BY 1"
    ask = ("sql", question, "--param", "day=2014-03-12", "--format")
    as_csv = k2(*ask, "csv")
    assert list(csv.reader(io.StringIO(as_csv.stdout))) == [
        ["symbol", "volume"],
        ["BHP", "300.00000000"],
        ["RIO", "300.00000000"],
    ]
    assert json.loads(k2(*ask, "json").stdout)[0] == {"symbol": "BHP", "volume": "300.00000000"}
    assert "2 rows" in k2(*ask, "table").stdout
    assert k2(*ask, "parquet", "--output", str(tmp_path / "out.parquet")).exit_code == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 2


def test_sql_shows_some_rows_and_says_how_many_there_are(ten_days: Home) -> None:
    result = k2("sql", "SELECT * FROM asx.ohlcv_1m", "--rows", "2")
    assert "61 rows, the first 2 shown" in result.stdout


def test_sql_lists_the_tables(home: Home) -> None:
    listed = k2("sql", "SHOW ALL TABLES", "--format", "json", "--rows", "0")
    names = {f"{row['schema']}.{row['name']}" for row in json.loads(listed.stdout)}
    assert {"asx.trades", "hitbtc.ohlcv_1d", "all_feeds.raw_trades"} <= names


def test_sql_reads_its_statement_from_standard_input(ten_days: Home) -> None:
    result = CliRunner().invoke(app, ["sql", "-", "--format", "csv"], input="SELECT count(*) AS n FROM asx.ohlcv_1m")
    assert result.stdout == "n\n61\n"


def test_sql_explains_with_the_plan_as_it_is(ten_days: Home) -> None:
    plan = k2("sql", "EXPLAIN ANALYZE SELECT sum(volume) FROM asx.ohlcv_1m WHERE trade_date = '2014-03-12'").stdout
    assert "Total Files Read: 1" in plan


def test_sql_shows_the_tables_as_they_were(home: Home) -> None:
    table = home.table("asx", "ohlcv_1d")
    table.append(bar_table([bar(0)]))
    then = now()
    table.append(bar_table([bar(1)]))
    question = ("sql", "SELECT count(*) AS n FROM asx.ohlcv_1d", "--format", "csv")
    assert k2(*question).stdout == "n\n2\n"
    assert k2(*question, "--as-of", then.isoformat()).stdout == "n\n1\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SELEC 1"], 'syntax error at or near "SELEC" (line 1, column 1)'),
        (["SELECT * FROM asx.tradez"], "tradez does not exist"),
        (["SELECT pric FROM asx.trades"], 'Referenced column "pric" not found'),
        (["SELECT 1", "--param", "a"], "expected NAME=VALUE"),
        (["SELECT $a"], "no value was given for $a"),
        (["DROP VIEW asx.trades"], "only statements that read can be run"),
        (["SELECT 'x'::INT"], "Could not convert string 'x' to INT32"),
        (["SELECT 1", "--format", "csv", "--output", "/nowhere/out.csv"], "/nowhere/out.csv: can't be written"),
    ],
)
def test_a_wrong_question_gets_a_message_and_no_traceback(home: Home, arguments: list[str], message: str) -> None:
    result = k2("sql", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


# k2 bars.


def test_bars_shows_a_symbol_s_day_with_only_the_digits_it_needs(home: Home) -> None:
    rows = [bar(minute, price=Decimal("36.45"), volume=Decimal(6_705_250)) for minute in range(3)]
    home.table("asx", "ohlcv_1m").append(bar_table([*rows, bar(0, symbol="RIO")]))
    lines = k2("bars", "BHP", "--feed", "asx", "--date", "2014-03-11").stdout.splitlines()
    assert lines[0] == "BHP · asx · 1m"
    assert lines[3].split() == ["2014-03-11", "00:00", "36.45", "36.45", "36.45", "36.45", "6,705,250", "36.45", "1"]
    assert len(lines) == 6


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "30m", "1h", "1d"])
def test_bars_knows_every_width(home: Home, interval: str) -> None:
    home.table("asx", f"ohlcv_{interval}").append(bar_table([bar(0)]))
    result = k2("bars", "BHP", "--feed", "asx", "--date", "2014-03-11", "--interval", interval, "--format", "json")
    assert Decimal(json.loads(result.stdout)[0]["close"]) == 10


def test_bars_of_several_days_are_in_time_order(ten_days: Home) -> None:
    result = k2("bars", "RIO", "--feed", "asx", "--date", "2014-03-11", "--to", "2014-03-13", "--format", "csv")
    starts = [row["bar_start"] for row in csv.DictReader(io.StringIO(result.stdout))]
    assert len(starts) == 9
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("symbol", "options", "message"),
    [
        ("BPH", ["--feed", "asx", "--date", "2014-03-11"], "Symbols like it then: BHP (2 symbols have bars"),
        ("bhp", ["--feed", "asx", "--date", "2014-03-11"], "Symbols like it then: BHP"),
        (
            "NEW",
            ["--feed", "asx", "--date", "2014-03-11"],
            "has no bars of NEW on 2014-03-11. It has some on 2014-03-25",
        ),
        ("BHP", ["--feed", "asx", "--date", "2014-03-22"], "days that have are 2014-03-19 and 2014-03-25"),
        (
            "BHP",
            ["--feed", "asx", "--date", "2013-01-01", "--to", "2013-12-31"],
            "The nearest day that has is 2014-03-10",
        ),
        (
            "BHP",
            ["--feed", "asx", "--date", "2014-03-11", "--interval", "1d"],
            "asx.ohlcv_1d has no bars on 2014-03-11. It is",
        ),
        ("BHP", ["--feed", "hitbtc", "--date", "2014-03-11"], "catch-up --feed hitbtc"),
        ("BHP", ["--feed", "nyse", "--date", "2014-03-11"], "no feed 'nyse'; those declared are asx, hitbtc, sim"),
        ("BHP", ["--feed", "asx", "--date", "2014-03-11", "--to", "2014-03-10"], "lies before --date 2014-03-11"),
        ("'; DROP VIEW bars; --", ["--feed", "asx", "--date", "2014-03-11"], "has no bars of '; DROP VIEW bars; --"),
    ],
)
def test_bars_that_are_not_there_get_a_message_that_says_what_is(
    ten_days: Home, symbol: str, options: list[str], message: str
) -> None:
    result = k2("bars", symbol, *options)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())


def test_bars_draws_a_chart_in_a_terminal_only(ten_days: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("bars", "BHP", "--feed", "asx", "--date", "2014-03-11")
    assert "┤" not in k2(*ask).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "┤" in k2(*ask).stdout


def test_neither_command_waits_for_what_it_does_not_need(ten_days: Home) -> None:
    code = """
import sys
from typer.testing import CliRunner, Result
from k2_cli.main import app
for command in (["bars", "BHP", "--feed", "asx", "--date", "2014-03-11"], ["sql", "SELECT 1 FROM asx.ohlcv_1m"]):
    assert CliRunner().invoke(app, command).exit_code == 0
    print([name for name in ("dagster", "polars", "matplotlib", "exchange_calendars") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = result.stdout.splitlines()
    assert first == "[]"
    assert "dagster" not in second


def k2(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def views(connection: duckdb.DuckDBPyConnection) -> set[str]:
    sql = "SELECT table_schema || '.' || table_name FROM information_schema.tables"
    return {name for (name,) in connection.execute(sql).fetchall()}


def files_read(connection: duckdb.DuckDBPyConnection, sql: str, values: dict[str, str]) -> tuple[int, set[str]]:
    """How many files a question reads, and the trading days of those that its plan names."""
    plan = connection.execute(f"EXPLAIN ANALYZE {sql}", values).fetchall()[0][1]
    files = sum(int(count) for count in re.findall(r"Total Files Read: (\d+)", plan))
    # The plan breaks long names over several lines of a box.
    return files, set(re.findall(r"exchange_date=(\d{4}-\d{2}-\d{2})", re.sub(r"[│\s]+", "", plan)))


def add_column(home: Home, feed: str, table: str, column: str) -> None:
    with home.table(feed, table).update_schema() as update:
        update.add_column(column, StringType())


def now() -> datetime:
    """This moment, between the times of the snapshots made before and after it."""
    clock = time.time_ns() // 1_000_000
    _next_millisecond(clock)
    moment = datetime.fromtimestamp((clock + 1) / 1000, UTC)
    _next_millisecond(clock + 1)
    return moment


def _next_millisecond(clock: int) -> None:
    while time.time_ns() // 1_000_000 <= clock:
        pass


def raw_trade(offset: int, **said: Any) -> dict[str, Any]:
    """A raw row of one fixed trading day."""
    return {
        "trade_date": FIRST_DAY,
        "symbol": "BHP",
        "conditions": ["a", "b"],
        "attributes": [("key", "value")],
        "payload": b"\x00\xff",
        "kafka_topic_id": "topic",
        "kafka_partition": 0,
        "kafka_offset": offset,
    } | said


def raw(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RAW_TRADES)
