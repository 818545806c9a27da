"""Counts how often each check of trades flags real days: five of ASX, and a file of HitBTC.

``make flag-rates`` reads the data from ``K2_TEST_DATA`` (or ``../shared/data``), cleans each day and applies the rules
as the assets do, without a stack. The ASX days are gone through twice: as the feed has it, and as if every trade set
prices, which shows what the rules find among the off-market trades that the feed's conditions keep out.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from benchmarks.results_file import write_results
from k2_assets.checks import REPEATED_CONTENT, trade_rules
from k2_market.bars import minute_bars, roll_up
from k2_market.feeds.feed import Conditions, Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.quality.finding import Finding
from k2_market.quality.trade_rules import TradeChecks
from k2_market.schemas.tables import DAY, RAW_TRADES
from k2_market.sources.format import SourceFormat
from k2_market.sources.trade import in_time_order
from k2_market.trades.cleaning import clean_day
from k2_platform.producing import read_file
from k2_resources.files.source_files import find_source_files
from k2_resources.settings import SHIPPED_FEEDS

ROOT = Path(__file__).resolve().parents[1]
FLAGGED = {
    "unmatched_amendments": "unmatched_corrections",
    "prices_positive": "nonpositive",
    "inside_session": "outside",
    "price_jumps": "jumps",
    "price_band": "outside",
    "repeated_content": "repeated",
}
"""The number of each check that counts what it flags."""


def main() -> None:
    data = Path(os.environ.get("K2_TEST_DATA", ROOT.parent / "shared" / "data"))
    feeds = load_feeds([SHIPPED_FEEDS])
    asx, every = feeds["asx"], feeds["asx"].model_copy(update={"conditions": Conditions()})
    trades = _read(asx, SourceFormat.ASX_TICKDATA, data / "asx-2014-03" / "trades")
    candles = _read(feeds["hitbtc"], SourceFormat.HITBTC, data / "hitbtc-2021" / "trades.csv")
    found = {
        "asx": list(_findings(asx, trades)),
        "asx, every trade setting prices": list(_findings(every, trades)),
        "hitbtc": list(_findings(feeds["hitbtc"], candles)),
    }
    write_results("flag_rates", {name: _counted(days) for name, days in found.items()})


def _counted(days: list[tuple[int, tuple[Finding, ...]]]) -> dict[str, Any]:
    """Of some days, for each check: days that it warns of, and trades or symbols that it flags."""
    warned: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for _, findings in days:
        for each in findings:
            warned[each.check] += not each.passed
            flagged[each.check] += int(each.numbers.get(FLAGGED.get(each.check, ""), 0))
    checks = {each.check: {"days_warned": warned[each.check], "flagged": flagged[each.check]} for each in days[0][1]}
    return {"days": len(days), "trades": sum(trades for trades, _ in days), "checks": checks}


def _findings(feed: Feed, trades: pl.DataFrame) -> Iterator[tuple[int, tuple[Finding, ...]]]:
    calendar = TradingCalendar.of(feed)
    closes: dict[str, Decimal] = {}
    shares: list[float] = []
    for (day,), rows in trades.partition_by("trade_date", as_dict=True, maintain_order=True).items():
        assert isinstance(day, date)
        raw = _raw_rows(rows, feed)
        clean = clean_day(raw, feed.conditions).trades
        judgement = TradeChecks(trade_rules(feed, day, closes, shares))
        judgement.see(raw, clean)
        findings = judgement.findings()
        yield clean.num_rows, findings
        start, end = calendar.day_start(day), calendar.day_end(day)
        daily = roll_up(minute_bars(clean, start), DAY, start, end)
        closes |= dict(zip(daily["symbol"].to_pylist(), daily["close"].to_pylist(), strict=True))
        shares += [float(each.numbers["share"]) for each in findings if each.check == REPEATED_CONTENT]


def _raw_rows(trades: pl.DataFrame, feed: Feed) -> pa.Table:
    """Raw rows of trades, as if each had come as a message, in one partition."""
    rows = trades.with_row_index("kafka_offset").select(
        "symbol",
        "trade_date",
        "trade_id",
        "price",
        "quantity",
        "side",
        "conditions",
        "action",
        "sequence_number",
        exchange_timestamp=pl.from_epoch("exchange_timestamp_us", time_unit="us").dt.replace_time_zone("UTC"),
        kafka_offset=pl.col("kafka_offset").cast(pl.Int64),
        kafka_partition=pl.lit(0, pl.Int32),
        kafka_topic_id=pl.lit("none"),
        currency=pl.lit(feed.currency),
    )
    absent = [pl.lit(None).alias(name) for name in RAW_TRADES.names if name not in rows.columns]
    return rows.with_columns(absent).select(RAW_TRADES.names).to_arrow().cast(RAW_TRADES)


def _read(feed: Feed, source_format: SourceFormat, path: Path) -> pl.DataFrame:
    now = datetime.now(UTC)
    return in_time_order([read_file(each, source_format, feed, now) for each in find_source_files([str(path)])])


if __name__ == "__main__":
    main()
