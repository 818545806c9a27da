"""Defines the bar assets: ``ohlcv_1m`` from ``trades``, longer bars from it, each checked before it is published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from k2_assets.asset_facts import table_facts
from k2_assets.day_build import BACKFILL, BuiltDay, Extent, Gate, data_versions
from k2_assets.day_chart import day_chart_markdown
from k2_assets.records.run_process import record_process
from k2_assets.records.run_scope import days_of_run, materialized
from k2_market.bars import READ_FROM_TRADES, BarOverflowError, minute_bars, roll_up
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import CLEAN_TRADES
from k2_market.plans.build_rules import BuildRules
from k2_market.plans.day_builds import Builds
from k2_market.quality.bar_rules import COMPARED_TRADES, bar_invariants, roll_up_identity
from k2_market.schemas.tables import BARS, DAY, MINUTE, ROLLED_UP, BarInterval
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.staged_day import StagedDay
from k2_resources.logs.structured_logging import correlation, get_logger

_log = get_logger("build")

MOST_CHARTED_DAYS = 10
"""Days of a run that get a chart each. Drawing costs more than the bars do; a longer run loads a history."""


def minute_bars_asset(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the feed's ``ohlcv_1m`` asset."""
    key = dg.AssetKey([feed.name, MINUTE.table])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([feed.name, CLEAN_TRADES])],
        partitions_def=days,
        backfill_policy=BACKFILL,
        code_version=BuildRules.of(feed).fingerprint,
        **table_facts(feed, MINUTE.table, BARS, "bars"),
        pool=f"{feed.name}_build",
        group_name=feed.name,
        kinds={"polars", "iceberg"},
        description="One-minute bars: open, high, low, close, volume and average price of eligible trades. "
        "A minute without such a trade has no bar.",
    )
    def ohlcv_1m(
        context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        record_process(context)
        calendar = TradingCalendar.of(feed)
        run_days = days_of_run(context, calendar, iceberg.day_table(feed.name, CLEAN_TRADES).builds())
        source = BarsSource.of(feed, iceberg, CLEAN_TRADES, run_days)
        gate = Gate(context, key, iceberg.day_table(feed.name, MINUTE.table), calendar)
        with correlation(context.run.run_id):
            made = gate.publish(run_days, partial(build_minute_bars, source))
        yield from materialized(context, key, {day: each.metadata for day, each in made.items()}, data_versions(made))
        gate.close()

    return ohlcv_1m


def rolled_up_bars_asset(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the feed's wider bars, ``ohlcv_5m`` to ``ohlcv_1d``, as one asset definition of several assets."""
    keys = {interval: dg.AssetKey([feed.name, interval.table]) for interval in ROLLED_UP}

    @dg.multi_asset(
        name=f"{feed.name}__ohlcv_rolled_up",
        specs=[
            dg.AssetSpec(
                key,
                deps=[dg.AssetKey([feed.name, MINUTE.table])]
                + ([dg.AssetKey([feed.name, CLEAN_TRADES])] if interval is DAY else []),
                partitions_def=days,
                group_name=feed.name,
                kinds={"polars", "iceberg"},
                description=f"Bars of {interval.name}: open, high, low, close, volume and average price, made from "
                f"the one-minute bars of {MINUTE.table}. An interval without a trade has no bar.",
                code_version=BuildRules.of(feed).fingerprint,
                **table_facts(feed, interval.table, BARS, "bars"),
            )
            for interval, key in keys.items()
        ],
        pool=f"{feed.name}_build",
        backfill_policy=BACKFILL,
        description="Rolls one-minute bars up to the wider ones.",
        can_subset=True,
    )
    def ohlcv_rolled_up(
        context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        record_process(context)
        calendar = TradingCalendar.of(feed)
        run_days = days_of_run(context, calendar, iceberg.day_table(feed.name, MINUTE.table).builds())
        source = BarsSource.of(feed, iceberg, MINUTE.table, run_days)
        trades = iceberg.day_table(feed.name, CLEAN_TRADES).reader(run_days)
        for interval, key in keys.items():
            if key not in context.selected_asset_keys:
                continue
            gate = Gate(context, key, iceberg.day_table(feed.name, interval.table), calendar)
            with correlation(context.run.run_id):
                made = gate.publish(run_days, partial(build_rolled_up, source, trades, interval))
            metadata = {day: each.metadata for day, each in made.items()}
            yield from materialized(context, key, metadata, data_versions(made))
            gate.close()

    return ohlcv_rolled_up


@dataclass(frozen=True)
class BarsSource:
    """Holds what some days' bars of an interval are made from.

    Attributes:
        feed: The feed.
        reader: Reads the days of the table that they are made from, as it is published.
        builds: What each day of that table was made from.
        rules: Rules by fingerprint; the bars of a day go by those that its trades were made under.
        charted: Whether each day gets a chart.
    """

    feed: Feed
    reader: DayReader
    builds: Builds
    rules: Mapping[str, BuildRules]
    charted: bool

    @classmethod
    def of(cls, feed: Feed, iceberg: IcebergCatalogResource, table: str, days: Sequence[date]) -> "BarsSource":
        """Gather it from the published table of some name."""
        reader, builds = iceberg.day_table(feed.name, table).reader_and_builds(days)
        rules = iceberg.day_table(feed.name, CLEAN_TRADES).rules()
        return cls(feed, reader, builds, rules, len(days) <= MOST_CHARTED_DAYS)

    def feed_of(self, day: date) -> Feed:
        """Give the feed under the rules that a day's trades were made under."""
        build = self.builds.get(day)
        rules = None if build is None else self.rules.get(build.rules)
        return self.feed if rules is None else rules.applied_to(self.feed)


def build_minute_bars(source: BarsSource, day: date, staged: StagedDay) -> BuiltDay:
    """Make a day's one-minute bars from its published trades."""
    feed = source.feed_of(day)
    read = source.reader.read_day_compactly(day, *READ_FROM_TRADES)
    kept_back: list[BarOverflowError] = []
    bars = minute_bars(read, TradingCalendar.of(feed).grid_start(day), kept_back.append)
    staged.add(bars)
    metadata = _described(source, MINUTE, bars, day, kept_back)
    return BuiltDay((bar_invariants(bars, feed.price.may_be),), metadata, source.builds.get(day))


def build_rolled_up(
    source: BarsSource, trades: DayReader, interval: BarInterval, day: date, staged: StagedDay
) -> BuiltDay:
    """Make a day's bars of an interval from its published one-minute bars; 1d is held to the trades themselves."""
    feed = source.feed_of(day)
    calendar = TradingCalendar.of(feed)
    read = source.reader.read_day_compactly(day)
    start = calendar.day_start(day) if interval is DAY else calendar.grid_start(day)
    kept_back: list[BarOverflowError] = []
    bars = roll_up(read, interval, start, calendar.day_end(day), kept_back.append)
    staged.add(bars)
    identity = (roll_up_identity(bars, trades.read_day_compactly(day, *COMPARED_TRADES)),) if interval is DAY else ()
    findings = (bar_invariants(bars, feed.price.may_be), *identity)
    return BuiltDay(findings, _described(source, interval, bars, day, kept_back), source.builds.get(day))


def _described(
    source: BarsSource, interval: BarInterval, bars: pa.Table, day: date, kept_back: Sequence[BarOverflowError]
) -> dict[str, Any]:
    chart: dict[str, Any] = {}
    if source.charted:
        feed = source.feed_of(day)
        title = f"{feed.exchange} {day:%a %d %b %Y}, {interval.name}"
        chart = {"chart": dg.MetadataValue.md(day_chart_markdown(bars, title, feed.zone))}
    for each in kept_back:
        _log.warning(str(each), feed=source.feed.name, trade_date=day.isoformat(), symbol=each.symbol)
    symbols = [each.symbol for each in kept_back]
    return {
        **chart,
        **Extent.of(bars, "bar_start").metadata,
        **({"symbols_kept_back": dg.MetadataValue.json(symbols)} if symbols else {}),
    }
