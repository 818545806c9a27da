"""Bars of real days against what others say of those days: the vendor's exclusions, the exchange's own candles."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from repository import SHIPPED_FEEDS

from k2_market.bars import minute_bars, roll_up
from k2_market.feeds.feed import Conditions, load_feeds
from k2_market.schemas.tables import DAY, PRICE, QUANTITY, RAW_TRADES
from k2_market.trades.cleaning import clean_day

FEEDS = load_feeds([SHIPPED_FEEDS])
SYDNEY = ZoneInfo("Australia/Sydney")
BHP_DAY = date(2014, 3, 11)
DECIMALS = {name: pl.Decimal(kind.precision, kind.scale) for name, kind in [("price", PRICE), ("quantity", QUANTITY)]}


@pytest.fixture(scope="module")
def bhp(market_data: Path) -> pa.Table:
    """BHP on 11 March 2014 as raw rows; file order is feed order."""
    path = market_data / "asx-2014-03" / "trades" / "7078.csv.gz"
    columns = ["date", "time", "price", "quantity", "condition", "excluded", "filtered_price"]
    lines = pl.read_csv(path, has_header=False, new_columns=columns, schema_overrides=dict.fromkeys(columns, pl.String))
    local = pl.concat_str("date", pl.lit(" "), "time").str.to_datetime("%m/%d/%Y %H:%M:%S%.3f", time_unit="us")
    return raw_rows(
        lines.with_row_index("line")
        .with_columns(local.dt.replace_time_zone("Australia/Sydney").alias("local"))
        .filter(pl.col("local").dt.date() == BHP_DAY)
        .select(
            symbol=pl.lit("BHP"),
            trade_date=pl.col("local").dt.date(),
            exchange_timestamp=pl.col("local").dt.convert_time_zone("UTC"),
            trade_id=pl.format("7078-{}", "line"),
            price="price",
            quantity="quantity",
            conditions=pl.concat_list("condition"),
        )
    )


def raw_rows(trades: pl.DataFrame) -> pa.Table:
    """``RAW_TRADES`` of trades, one Kafka message each, in one partition."""
    return (
        trades.with_row_index("kafka_offset")
        .select(
            *(pl.col(c).cast(DECIMALS[c]) if c in DECIMALS else pl.col(c) for c in trades.columns),
            pl.col("kafka_offset").cast(pl.Int64),
            kafka_partition=pl.lit(0, pl.Int32),
            kafka_topic_id=pl.lit("topic-a"),
            side=pl.lit("UNKNOWN"),
            action=pl.lit("NEW"),
            currency=pl.lit("AUD"),
        )
        .pipe(
            lambda frame: frame.with_columns(pl.lit(None).alias(c) for c in RAW_TRADES.names if c not in frame.columns)
        )
        .select(RAW_TRADES.names)
        .to_arrow()
        .cast(RAW_TRADES)
    )


def day_bar(raw: pa.Table, conditions: Conditions) -> dict[str, object]:
    start, end = (datetime(2014, 3, day, tzinfo=SYDNEY).astimezone(UTC) for day in (11, 12))
    trades = clean_day(raw, conditions).trades
    (bar,) = roll_up(minute_bars(trades, start), DAY, start, end).to_pylist()
    return bar


def test_the_day_of_bhp_under_the_feeds_conditions(bhp):
    bar = day_bar(bhp, FEEDS["asx"].conditions)

    assert (bar["high"], bar["low"], bar["volume"]) == (Decimal("36.45"), Decimal("35.84"), 6_705_250)


def test_the_day_of_bhp_when_every_print_counts(bhp):
    bar = day_bar(bhp, Conditions())

    assert (bar["high"], bar["low"], bar["volume"]) == (Decimal("42.00"), Decimal("35.772"), 8_919_376)


def test_every_candle_of_the_exchange_inside_a_symbols_trades_is_equal(market_data):
    prices = dict.fromkeys(["price", "quantity", "trade_id"], pl.String)
    source = pl.read_csv(market_data / "hitbtc-2021" / "trades.csv", schema_overrides=prices)
    trades = source.with_columns(
        pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="us", time_zone="UTC")
    )
    candles = pl.read_csv(market_data / "hitbtc-2021" / "candles_1m.csv", infer_schema=False).with_columns(
        pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="us", time_zone="UTC"),
        pl.col("open", "high", "low", "close").cast(DECIMALS["price"]),
        pl.col("volume").cast(pl.Decimal(38, 8)),
    )
    window = trades.group_by("symbol").agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max())
    inside = candles.join(window, on="symbol").filter(
        pl.col("timestamp") >= pl.col("first"), pl.col("timestamp") + timedelta(minutes=1) <= pl.col("last")
    )

    ours = pl.concat(hitbtc_bars(day) for (_,), day in trades.group_by(pl.col("timestamp").dt.date()))

    columns = ["symbol", "timestamp", "open", "high", "low", "close", "volume"]
    assert inside.height == 428
    assert inside.select(columns).join(ours.select(columns), on=columns, how="inner").height == 428


def hitbtc_bars(day: pl.DataFrame) -> pl.DataFrame:
    raw = raw_rows(
        day.select(
            "symbol",
            "trade_id",
            "price",
            "quantity",
            trade_date=pl.col("timestamp").dt.date(),
            exchange_timestamp="timestamp",
            conditions=pl.lit([], pl.List(pl.String)),
        )
    )
    start = day["timestamp"].dt.truncate("1d")[0]
    bars = pl.from_arrow(minute_bars(clean_day(raw, FEEDS["hitbtc"].conditions).trades, start))
    assert isinstance(bars, pl.DataFrame)
    return bars.rename({"bar_start": "timestamp"})
