"""A large day through K2's own code, raw rows to trades to all bars, beside what the same work costs at the least.

``make bench-bars``: a simulated day of 10,000,000 messages of 2,000 symbols. ``trades`` is cleaned, judged and
published as the asset does it, and the bars of all six widths too; charts are not drawn. Beside them stand a bare
read, sort, look for repeated keys and write of the same raw files by Polars, and the same bars by plain DuckDB from
the file of ``trades`` to six Parquet files, with no check of anything.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from pyiceberg.exceptions import NoSuchTableError

from benchmarks.measured_process import Measured, in_turns, measure, medians
from benchmarks.results_file import write_results
from benchmarks.simulated_tables import catalog_in, raw_day, simulated_feed, write_raw_day
from k2_assets.bars import BarsSource, build_minute_bars, build_rolled_up
from k2_assets.checks import TradesOfDay, bar_findings, trade_findings
from k2_assets.day_build import Build
from k2_assets.trades import TradesSource, build_trades
from k2_market.schemas.tables import BAR_INTERVALS, DAY, MINUTE, RAW_TRADES, ROLLED_UP
from k2_market.trades.cleaning import COLUMNS_READ
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.scan_files import day_paths
from k2_resources.raw.view import RawView

TRADING_DAY = date(2026, 11, 20)
SETTINGS = {"rounds": 5, "trades": 10_000_000, "symbols": 2_000}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in SETTINGS.items():
        arguments.add_argument(f"--{name}", type=int, default=default)
    arguments.add_argument(
        "--keep", type=Path, help="a directory to make the day in, or to take it from if it is there"
    )
    chosen = arguments.parse_args()
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="k2-bench-bars-"))
    try:
        if not (directory / "catalog.db").exists():
            directory.mkdir(parents=True, exist_ok=True)
            measure(make_day, directory=str(directory), trades=chosen.trades, symbols=chosen.symbols)
        found = in_turns(chosen.rounds, _measurements(str(directory)))
    finally:
        if chosen.keep is None:
            shutil.rmtree(directory)
    _report(found, chosen.trades, chosen.symbols)


def _measurements(directory: str) -> dict[str, Callable[[], Measured]]:
    def anew(tables: list[str], function: Callable[..., Any]) -> Callable[[], Measured]:
        def run() -> Measured:
            _drop(directory, tables)
            return measure(function, directory=directory)

        return run

    return {
        "trades": anew(["trades"], k2_trades),
        "bare_trades": lambda: measure(bare_trades, directory=directory),
        "trades_checks": lambda: measure(k2_trades_checks, directory=directory),
        "bars": anew([interval.table for interval in BAR_INTERVALS], k2_bars),
        "duckdb_bars": lambda: measure(duckdb_bars, directory=directory),
        "bars_checks": lambda: measure(k2_bars_checks, directory=directory),
    }


def _report(found: dict[str, list[Measured]], trades: int, symbols: int) -> None:
    figures = {name: medians(rounds) for name, rounds in found.items()}
    ratio = {
        kind: {what: figures[a][what] / figures[b][what] for what in ("wall_seconds", "cpu_seconds", "peak_rss_bytes")}
        for kind, (a, b) in {
            "bars_to_duckdb": ("bars", "duckdb_bars"),
            "trades_to_bare": ("trades", "bare_trades"),
        }.items()
    }
    write_results("bars", {"messages": trades, "symbols": symbols, **figures, "ratios": ratio})


def make_day(directory: str, trades: int, symbols: int) -> None:
    feed = simulated_feed()
    write_raw_day(catalog_in(Path(directory)), feed, raw_day(feed, TRADING_DAY, trades, symbols))


def k2_trades(directory: str) -> int:
    """Raw rows to published trades, as the asset ``trades`` makes them."""
    source = TradesSource.of(simulated_feed(), _raw(directory), _table(directory, "trades"), [TRADING_DAY], adopt=True)
    return _published(directory, "trades", partial(build_trades, source))


def k2_trades_checks(directory: str) -> int:
    """The checks of the published trades."""
    raw = _raw(directory)
    of_day = TradesOfDay((raw, raw.reader([TRADING_DAY])), _reader(directory, "trades"), None)
    found = trade_findings(simulated_feed(), of_day, TRADING_DAY)
    assert all(finding.passed for finding in found), found
    return len(found)


def k2_bars(directory: str) -> int:
    """Trades to published bars of every width, each with its gate, as the assets make them."""
    feed, trades = simulated_feed(), _reader(directory, "trades")
    rows = _published(
        directory, MINUTE.table, partial(build_minute_bars, BarsSource(feed, trades, {}, {}, charted=False))
    )
    minutes = BarsSource(feed, _reader(directory, MINUTE.table), {}, {}, charted=False)
    for interval in ROLLED_UP:
        rows += _published(directory, interval.table, partial(build_rolled_up, minutes, trades, interval))
    return rows


def k2_bars_checks(directory: str) -> int:
    """The checks of all published bars."""
    trades = _reader(directory, "trades")
    for interval in BAR_INTERVALS:
        found = bar_findings(simulated_feed(), interval, _reader(directory, interval.table), trades, TRADING_DAY)
        assert all(finding.passed for finding in found), found
    return len(BAR_INTERVALS)


def bare_trades(directory: str) -> int:
    """The least that trades cost: read, sort, look for repeated keys, write."""
    files = _files(directory, "raw_trades")
    raw = pl.scan_parquet(files, hive_partitioning=False).select(COLUMNS_READ).collect()
    ordered = raw.sort("symbol", "exchange_timestamp", "sequence_number", "kafka_partition", "kafka_offset")
    del raw
    repeated = ordered.height - ordered.select(pl.struct("symbol", "trade_id").hash().n_unique()).item()
    ordered.write_parquet(Path(directory) / "bare.parquet", compression="zstd", compression_level=3)
    return int(repeated)


def duckdb_bars(directory: str) -> int:
    """The least that bars cost: the same aggregates by plain DuckDB, and their six files."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_MINUTES, {"files": _files(directory, "trades")})
        for interval in BAR_INTERVALS:
            if interval is not MINUTE:
                width = "1 day" if interval is DAY else f"{int(interval.width.total_seconds() // 60)} minutes"
                connection.execute(f"CREATE TEMP TABLE {interval.table} AS {_ROLLED_UP}", {"width": width})
            path = Path(directory) / f"{interval.table}.parquet"
            connection.execute(
                f"COPY (FROM {interval.table} ORDER BY symbol, bar_start) TO '{path}' (COMPRESSION zstd)"
            )
        found = connection.execute(f"SELECT count(*) FROM {MINUTE.table}").fetchone()
        return int(found[0]) if found else 0


_MINUTES = """
CREATE TEMP TABLE ohlcv_1m AS
SELECT
    any_value(trade_date) AS trade_date, symbol, time_bucket(INTERVAL 1 minute, exchange_timestamp) AS bar_start,
    arg_min(price, trade_order) FILTER (price_eligible) AS open,
    max(price) FILTER (price_eligible) AS high,
    min(price) FILTER (price_eligible) AS low,
    arg_max(price, trade_order) FILTER (price_eligible) AS close,
    sum(quantity) FILTER (volume_eligible) AS volume,
    sum(price::DECIMAL(28, 10) * quantity) FILTER (price_eligible) AS notional,
    sum(quantity) FILTER (price_eligible) AS priced_volume,
    count(*) FILTER (volume_eligible) AS trade_count,
    count(*) FILTER (price_eligible) AS priced_count
FROM read_parquet($files)
WHERE price_eligible OR volume_eligible
GROUP BY symbol, bar_start
"""

_ROLLED_UP = """
SELECT
    any_value(trade_date) AS trade_date, symbol, time_bucket($width::INTERVAL, bar_start) AS bar_start,
    arg_min(open, bar_start) AS open, max(high) AS high, min(low) AS low, arg_max(close, bar_start) AS close,
    sum(volume) AS volume, sum(notional) AS notional, sum(priced_volume) AS priced_volume,
    sum(trade_count) AS trade_count, sum(priced_count) AS priced_count
FROM ohlcv_1m
GROUP BY symbol, time_bucket($width::INTERVAL, bar_start)
"""


def _published(directory: str, name: str, build: Build) -> int:
    table = _table(directory, name)
    with table.stager([TRADING_DAY]) as stager, stager.stage(TRADING_DAY) as staged:
        built = build(TRADING_DAY, staged)
        assert all(finding.passed for finding in built.findings), built.findings
        table.publish([staged], "benchmark")
    return staged.rows


def _raw(directory: str) -> RawView:
    return RawView(find_table(catalog_in(Path(directory)), simulated_feed().name, "raw_trades"), RAW_TRADES)


def _reader(directory: str, name: str) -> DayReader:
    return _table(directory, name).reader([TRADING_DAY])


def _table(directory: str, name: str) -> DayTable:
    return DayTable(catalog_in(Path(directory)), simulated_feed().name, name)


def _files(directory: str, name: str) -> list[str]:
    table = find_table(catalog_in(Path(directory)), simulated_feed().name, name)
    assert table is not None
    return sorted(path.removeprefix("file://") for path in day_paths(table, TRADING_DAY))


def _drop(directory: str, tables: list[str]) -> None:
    feed = simulated_feed().name
    for name in tables:
        with suppress(NoSuchTableError):
            catalog_in(Path(directory)).drop_table((feed, name))
        shutil.rmtree(Path(directory) / "warehouse" / feed / name, ignore_errors=True)


if __name__ == "__main__":
    main()
