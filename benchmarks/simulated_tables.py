"""Feeds' tables full of simulated trades, the same for the same seed, as K2's own code would have them.

Raw rows are written as ingestion leaves them: in the order of arrival, a file a batch, each symbol in one of Kafka's
partitions. Everything that is derived from them is derived by K2.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.schemas.tables import RAW_TRADES
from k2_market.simulation.market_simulator import simulate_day
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.iceberg.day_files import append_files, write_day_files
from k2_resources.settings import SHIPPED_FEEDS

TOPIC_ID = "k2benchmarktopicAAAAAA"
PARTITIONS = 30
ROWS_A_BATCH = 1_000_000


def simulated_feed() -> Feed:
    """The feed that ships for simulated trades."""
    return load_feeds([SHIPPED_FEEDS])["sim"]


def catalog_in(directory: Path) -> Catalog:
    """A catalog of the benchmark's own."""
    return open_catalog(f"sqlite:///{directory}/catalog.db", f"file://{directory}/warehouse")


def raw_day(feed: Feed, day: date, trades: int, symbols: int, seed: int = 1) -> pa.Table:
    """The raw rows of a simulated trading day, in the order of arrival."""
    session = Session(datetime.combine(day, time(14, 30), UTC), datetime.combine(day, time(21), UTC))
    return _as_raw(simulate_day(feed, session, day, trades, seed, symbols), feed)


def write_raw_day(catalog: Catalog, feed: Feed, rows: pa.Table) -> None:
    """Append a day's raw rows a batch a file; without a ledger, since no broker stands behind them."""
    for batch in _batches(rows):
        table = ensure_table(catalog, feed.name, "raw_trades", tables_of(KINDS)["raw_trades"])
        transaction = table.transaction()
        append_files(transaction, write_day_files(table.metadata, table.io, batch), {})
        transaction.commit_transaction()


def _as_raw(trades: pl.DataFrame, feed: Feed) -> pa.Table:
    arrived = trades.with_columns(
        exchange_timestamp=pl.from_epoch("exchange_timestamp_us", "us").dt.replace_time_zone("UTC"),
        received_timestamp=pl.from_epoch("received_timestamp_us", "us").dt.replace_time_zone("UTC"),
        message_id=pl.format("{}:{}", "symbol", "trade_id"),
        exchange=pl.lit(feed.exchange),
        asset_class=pl.lit(feed.asset_class),
        currency=pl.lit(feed.currency),
        kafka_topic_id=pl.lit(TOPIC_ID),
        kafka_partition=(pl.col("symbol").hash(seed=1) % PARTITIONS).cast(pl.Int32),
        schema_id=pl.lit(1, pl.Int32),
        correlation_id=pl.lit("benchmark"),
    )
    arrived = arrived.with_columns(
        kafka_offset=pl.int_range(pl.len(), dtype=pl.Int64).over("kafka_partition"),
        kafka_timestamp=pl.col("exchange_timestamp"),
    )
    columns = [
        arrived[field.name].to_arrow().cast(field.type)
        if field.name in arrived.columns and field.name != "attributes"
        else pa.nulls(arrived.height, field.type)
        for field in RAW_TRADES
    ]
    return pa.Table.from_arrays(columns, schema=RAW_TRADES)


def _batches(rows: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, rows.num_rows, ROWS_A_BATCH):
        yield rows.slice(first, ROWS_A_BATCH)
