"""Questions over 250 days and 50,000,000 trades through K2's query layer, beside DuckDB on the files of the answer.

``make bench-query``. K2 answers in a process that has asked before, in two ways: on a connection that is open (``k2``),
and on one opened for the question, which sees what was published a moment ago (``k2_opened``). ``duckdb`` is told which
Parquet files hold the answer and reads those alone, by ``read_parquet`` on an open connection. A round is the median of
a number of askings in a fresh process.

The days are one simulated day, moved: the same trades with other dates. There is no asset of quotes yet, so the quotes
are made here, two about each trade, and lie in plain Parquet files: the as-of join of K2's trades to them runs on a
connection of K2's with that directory in reach.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from benchmarks.measured_process import Measured, in_turns, measure
from benchmarks.results_file import write_results
from benchmarks.simulated_tables import catalog_in, raw_day, simulated_feed
from k2_market.bars import minute_bars, roll_up
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.schemas.tables import BARS, DAY, TRADES
from k2_market.trades.cleaning import clean_day
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.scan_files import of_day
from k2_resources.query.duckdb_connection import open_connection, seal
from k2_resources.query.views import create_views, open_query_connection

FIRST_DAY = date(2026, 1, 5)
SYMBOL = "SIM0007"
SETTINGS = {"rounds": 5, "askings": 20, "days": 250, "trades": 200_000, "symbols": 2_000}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in SETTINGS.items():
        arguments.add_argument(f"--{name}", type=int, default=default)
    arguments.add_argument("--keep", type=Path, help="a directory to make the tables in, or to take them from")
    chosen = arguments.parse_args()
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="k2-bench-query-"))
    days = chosen.days
    try:
        if not (directory / "catalog.db").exists():
            directory.mkdir(parents=True, exist_ok=True)
            measure(make_tables, directory=str(directory), days=days, trades=chosen.trades, symbols=chosen.symbols)
        asked = {"directory": str(directory), "days": days, "askings": chosen.askings}
        found = in_turns(chosen.rounds, {"questions": lambda: measure(ask, **asked)})["questions"]
    finally:
        if chosen.keep is None:
            shutil.rmtree(directory)
    _report(found, {"days": days, "trades_a_day": chosen.trades, "symbols": chosen.symbols, "askings": chosen.askings})


def _report(found: list[Measured], size: dict[str, int]) -> None:
    figures: dict[str, Any] = {}
    for question in found[0].answer:
        medians = {
            way: round(statistics.median(each.answer[question][way] for each in found), 2)
            for way in found[0].answer[question]
        }
        figures[question] = {**medians, "k2_to_duckdb": round(medians["k2_ms"] / medians["duckdb_ms"], 2)}
    write_results("query", {**size, "rounds": len(found), "questions": figures})


def ask(directory: str, days: int, askings: int) -> dict[str, dict[str, float]]:
    """Median times of each question, in milliseconds."""
    questions = _questions(Path(directory), days)
    return {question: _times(Path(directory), question, askings, *told) for question, told in questions.items()}


def _times(
    directory: Path, question: str, askings: int, k2_sql: str, duckdb_sql: str, values: dict[str, Any], files: list[str]
) -> dict[str, float]:
    tables = [("sim", "ohlcv_1d" if "bars" in question else "trades")]

    def opened() -> duckdb.DuckDBPyConnection:
        if "quotes" not in question:
            return open_query_connection(
                catalog_in(directory), ["sim"], tables_of(KINDS), spill_directory=directory, tables=tables
            )
        connection = open_connection(directory)
        reachable = create_views(connection, catalog_in(directory), ["sim"], tables_of(KINDS), tables=tables)
        seal(connection, [*reachable, str(directory / "quotes")])
        return connection

    def on_a_new_connection() -> pa.Table:
        with opened() as connection:
            return connection.execute(k2_sql, values).to_arrow_table()

    with opened() as k2, duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'UTC'")
        answers = {
            "k2_ms": lambda: k2.execute(k2_sql, values).to_arrow_table(),
            "k2_opened_ms": on_a_new_connection,
            "duckdb_ms": lambda: plain.execute(duckdb_sql, {**values, "files": files}).to_arrow_table(),
        }
        rows = {way: answer().num_rows for way, answer in answers.items()}
        assert len(set(rows.values())) == 1, rows
        assert rows["k2_ms"], question
        return {way: _median_ms(answer, askings) for way, answer in answers.items()}


def _median_ms(answer: Callable[[], object], askings: int) -> float:
    times = []
    for _ in range(askings):
        started = time.perf_counter()
        answer()
        times.append(1_000 * (time.perf_counter() - started))
    return statistics.median(times)


def _questions(directory: Path, days: int) -> dict[str, tuple[str, str, dict[str, Any], list[str]]]:
    """Each question as K2 and as DuckDB is asked it, its values, and the files of its answer."""
    day = FIRST_DAY + timedelta(days=days // 2)
    of_the_day = {"day": day.isoformat()}
    trades, bars = _files(directory, "trades", day), _files(directory, "ohlcv_1d", None)
    quotes = str(directory / "quotes" / f"{day}.parquet")
    return {
        "one_symbols_day": (
            _DAY.format("sim.trades"),
            _DAY.format("read_parquet($files)"),
            {**of_the_day, "symbol": SYMBOL},
            trades,
        ),
        "one_symbols_year_of_daily_bars": (
            _YEAR.format("sim.ohlcv_1d"),
            _YEAR.format("read_parquet($files)"),
            {"symbol": SYMBOL},
            bars,
        ),
        "top_20_by_notional_of_a_day": (
            _TOP.format("sim.trades"),
            _TOP.format("read_parquet($files)"),
            of_the_day,
            trades,
        ),
        "as_of_join_of_a_symbols_day_to_quotes": (
            _AS_OF.format("sim.trades"),
            _AS_OF.format("read_parquet($files)"),
            {**of_the_day, "symbol": SYMBOL, "quotes": quotes},
            trades,
        ),
    }


_DAY = "SELECT * FROM {} WHERE trade_date = $day::DATE AND symbol = $symbol ORDER BY exchange_timestamp"
_YEAR = "SELECT * FROM {} WHERE symbol = $symbol ORDER BY bar_start"
_TOP = """
SELECT symbol, sum(price::DECIMAL(28, 10) * quantity) AS notional
FROM {} WHERE trade_date = $day::DATE AND price_eligible
GROUP BY symbol ORDER BY notional DESC LIMIT 20
"""
_AS_OF = """
SELECT trade.exchange_timestamp, trade.price, trade.quantity, quote.bid_price, quote.ask_price
FROM (FROM {} WHERE trade_date = $day::DATE AND symbol = $symbol) AS trade
ASOF JOIN (FROM read_parquet($quotes) WHERE symbol = $symbol) AS quote
    ON quote.exchange_timestamp <= trade.exchange_timestamp
ORDER BY trade.exchange_timestamp
"""


def make_tables(directory: str, days: int, trades: int, symbols: int) -> None:
    """Publish one simulated day on every day, and its daily bars; quotes of the day in the middle."""
    place, feed = Path(directory), simulated_feed()
    catalog = catalog_in(place)
    clean = clean_day(raw_day(feed, FIRST_DAY, trades, symbols), feed.conditions).trades
    midnight = datetime.combine(FIRST_DAY, datetime.min.time(), UTC)
    daily = roll_up(minute_bars(clean, midnight), DAY, midnight, midnight + timedelta(days=1))
    tables = {name: DayTable(catalog, feed.name, name) for name in ("trades", "ohlcv_1d")}
    for number in range(days):
        day = FIRST_DAY + timedelta(days=number)
        tables["trades"].replace_day(day, _moved(clean, number, TRADES), "benchmark")
        tables["ohlcv_1d"].replace_day(day, _moved(daily, number, BARS), "benchmark")
    _write_quotes(
        _moved(clean, days // 2, TRADES), place / "quotes" / f"{FIRST_DAY + timedelta(days=days // 2)}.parquet"
    )


def _moved(rows: pa.Table, days: int, schema: pa.Schema) -> pa.Table:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    moments = [field.name for field in schema if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)]
    return frame.with_columns(pl.col(moments) + timedelta(days=days)).to_arrow().cast(schema)


def _write_quotes(trades: pa.Table, path: Path) -> None:
    frame = pl.from_arrow(trades.select(["symbol", "exchange_timestamp", "price"]))
    assert isinstance(frame, pl.DataFrame)
    before = frame.select(
        "symbol",
        pl.col("exchange_timestamp") - timedelta(milliseconds=5),
        bid_price=pl.col("price"),
        ask_price=pl.col("price") + pl.lit("0.01").cast(pl.Decimal(18, 10)),
    )
    after = before.with_columns(pl.col("exchange_timestamp") + timedelta(milliseconds=10))
    path.parent.mkdir(exist_ok=True)
    pl.concat([before, after]).sort("symbol", "exchange_timestamp").write_parquet(path, row_group_size=131_072)


def _files(directory: Path, name: str, day: date | None) -> list[str]:
    table = find_table(catalog_in(directory), "sim", name)
    assert table is not None
    scan = table.scan() if day is None else table.scan(row_filter=of_day(day))
    return sorted(task.file.file_path.removeprefix("file://") for task in scan.plan_files())


if __name__ == "__main__":
    main()
