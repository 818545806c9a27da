"""The bars: ``ohlcv_1m`` from trades, the wider ones rolled up from it, each gated before it is published."""

from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from k2_assets.day_build import BuiltDay, Extent, Gate
from k2_assets.day_chart import day_chart_markdown
from k2_assets.run_process import sign
from k2_assets.run_scope import days_of_run, materialized, versions_made_from
from k2_assets.trades import TRADES
from k2_market.bar_rules import COMPARED_TRADES, bar_invariants, roll_up_identity
from k2_market.bars import READ_FROM_TRADES, minute_bars, roll_up
from k2_market.feed import Feed
from k2_market.table_schemas import DAY, MINUTE, ROLLED_UP, BarInterval
from k2_market.trading_calendar import TradingCalendar
from k2_resources.day_reader import DayReader
from k2_resources.iceberg_resource import IcebergCatalogResource
from k2_resources.staged_day import StagedDay
from k2_resources.structured_logging import correlation

MOST_CHARTED_DAYS = 10
"""Days of a run that get a chart each. Drawing costs more than the bars do; a longer run loads a history."""


def minute_bars_asset(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The feed's ``ohlcv_1m`` asset."""
    key = dg.AssetKey([feed.name, MINUTE.table])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([feed.name, TRADES])],
        partitions_def=days,
        pool=f"{feed.name}_build",
        group_name=feed.name,
        kinds={"polars", "iceberg"},
        description="One-minute bars of eligible trades; no bar for a minute without one.",
    )
    def ohlcv_1m(
        context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        sign(context)
        versions = versions_made_from(context.instance, dg.AssetKey([feed.name, TRADES]))
        run_days = days_of_run(context)
        trades = iceberg.day_table(feed.name, TRADES).reader(run_days)
        gate = Gate(context, key, iceberg.day_table(feed.name, MINUTE.table))
        with correlation(context.run.run_id):
            build = partial(build_minute_bars, feed, trades, len(run_days) <= MOST_CHARTED_DAYS)
            made = gate.publish(run_days, build)
        yield from materialized(context, key, made, versions)
        gate.close()

    return ohlcv_1m


def rolled_up_bars_asset(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The feed's wider bars, ``ohlcv_5m`` to ``ohlcv_1d``, as one asset definition of several assets."""
    keys = {interval: dg.AssetKey([feed.name, interval.table]) for interval in ROLLED_UP}

    @dg.multi_asset(
        name=f"{feed.name}__ohlcv_rolled_up",
        specs=[
            dg.AssetSpec(
                key,
                deps=[dg.AssetKey([feed.name, MINUTE.table])]
                + ([dg.AssetKey([feed.name, TRADES])] if interval is DAY else []),
                partitions_def=days,
                group_name=feed.name,
                kinds={"polars", "iceberg"},
                description=f"Bars of {interval.name}, rolled up from {MINUTE.table}.",
            )
            for interval, key in keys.items()
        ],
        pool=f"{feed.name}_build",
        can_subset=True,
    )
    def ohlcv_rolled_up(
        context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        sign(context)
        versions = versions_made_from(context.instance, dg.AssetKey([feed.name, MINUTE.table]))
        run_days = days_of_run(context)
        minutes = iceberg.day_table(feed.name, MINUTE.table).reader(run_days)
        trades = iceberg.day_table(feed.name, TRADES).reader(run_days)
        for interval, key in keys.items():
            if key not in context.selected_asset_keys:
                continue
            gate = Gate(context, key, iceberg.day_table(feed.name, interval.table))
            build = partial(build_rolled_up, feed, interval, minutes, trades, len(run_days) <= MOST_CHARTED_DAYS)
            with correlation(context.run.run_id):
                made = gate.publish(run_days, build)
            yield from materialized(context, key, made, versions)
            gate.close()

    return ohlcv_rolled_up


def build_minute_bars(feed: Feed, trades: DayReader, charted: bool, day: date, staged: StagedDay) -> BuiltDay:
    """A day's one-minute bars from its published trades."""
    read = trades.read_day_compactly(day, *READ_FROM_TRADES)
    bars = minute_bars(read, TradingCalendar.of(feed).day_start(day))
    staged.add(bars)
    return BuiltDay((bar_invariants(bars),), _described(feed, MINUTE, bars, charted, day))


def build_rolled_up(
    feed: Feed,
    interval: BarInterval,
    minutes: DayReader,
    trades: DayReader,
    charted: bool,
    day: date,
    staged: StagedDay,
) -> BuiltDay:
    """A day's bars of an interval from its published one-minute bars; 1d is held to the trades themselves."""
    calendar = TradingCalendar.of(feed)
    read = minutes.read_day_compactly(day)
    bars = roll_up(read, interval, calendar.day_start(day), calendar.day_end(day))
    staged.add(bars)
    identity = (roll_up_identity(bars, trades.read_day_compactly(day, *COMPARED_TRADES)),) if interval is DAY else ()
    return BuiltDay((bar_invariants(bars), *identity), _described(feed, interval, bars, charted, day))


def _described(feed: Feed, interval: BarInterval, bars: pa.Table, charted: bool, day: date) -> dict[str, Any]:
    metadata: dict[str, Any] = {**Extent.of(bars, "bar_start").metadata}
    if charted:
        chart = day_chart_markdown(bars, f"{feed.exchange} {day:%a %d %b %Y}, {interval.name}", feed.zone)
        metadata["chart"] = dg.MetadataValue.md(chart)
    return metadata
