"""``trades``: one clean, sorted trading day, gated before it is published."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from functools import partial, reduce
from operator import add

import dagster as dg

from k2_assets.day_build import BuiltDay, Extent, Gate
from k2_assets.raw_trades import RAW_TRADES
from k2_assets.run_process import sign
from k2_assets.run_scope import days_of_run, materialized, raw_versions
from k2_market.feed import Feed
from k2_market.symbol_parts import symbol_parts
from k2_market.trade_cleaning import COLUMNS_READ, clean_day
from k2_market.trade_rules import COMPLETE_AGAINST_RAW, PRICES_POSITIVE, UNIQUE_TRADES, Judgement
from k2_resources.day_reader import DayReader
from k2_resources.iceberg_resource import IcebergCatalogResource
from k2_resources.staged_day import StagedDay
from k2_resources.structured_logging import correlation

TRADES = "trades"

RAW_SNAPSHOT = "raw_snapshot_id"
"""What a day's materialization calls the raw table's snapshot that its trades were made from."""


def trades_asset(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The feed's ``trades`` asset."""
    key = dg.AssetKey([feed.name, TRADES])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([feed.name, RAW_TRADES])],
        partitions_def=days,
        pool=f"{feed.name}_build",
        group_name=feed.name,
        kinds={"polars", "iceberg"},
        description="Each trade once, cancels and corrections applied, eligibility marked, sorted by symbol and time.",
    )
    def trades(
        context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        sign(context)
        versions = raw_versions(context.instance, dg.AssetKey([feed.name, RAW_TRADES]))
        raw = iceberg.raw_table(feed.name, RAW_TRADES).view()
        gate = Gate(context, key, iceberg.day_table(feed.name, TRADES))
        with correlation(context.run.run_id):
            run_days = days_of_run(context)
            topics = tuple(raw.ledger.topic_names)
            made = gate.publish(run_days, partial(build_trades, feed, topics, raw.reader(run_days)))
        made_from = {} if raw.snapshot_id is None else {RAW_SNAPSHOT: str(raw.snapshot_id)}
        yield from materialized(context, key, {day: {**said, **made_from} for day, said in made.items()}, versions)
        gate.close()

    return trades


def build_trades(feed: Feed, topic_order: tuple[str, ...], raw: DayReader, day: date, staged: StagedDay) -> BuiltDay:
    """A feed's clean trades of a day, with what the gate asks: each once, all of them, none wrongly eligible.

    Args:
        feed: The feed.
        topic_order: The ids of its topics, the oldest first.
        raw: Reads the raw rows.
        day: The trading day.
        staged: Takes the trades.
    """
    judgement = Judgement((UNIQUE_TRADES, COMPLETE_AGAINST_RAW, PRICES_POSITIVE))
    parts = []
    for (messages,) in symbol_parts(raw.read_day_compactly(day, *COLUMNS_READ)):
        clean = clean_day(messages, feed.conditions, topic_order=topic_order)
        staged.add(clean.trades)
        judgement.see(messages, clean.trades)
        parts.append((clean.counts, Extent.of(clean.trades, "exchange_timestamp")))
    unique, complete, prices = judgement.findings()
    counts, extent = (reduce(add, each) for each in zip(*parts, strict=True))
    return BuiltDay(
        findings=(unique, complete, *((prices,) if prices.numbers["eligible_nonpositive"] else ())),
        metadata={**asdict(counts), **extent.metadata},
    )
