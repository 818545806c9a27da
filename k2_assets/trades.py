"""Defines the ``trades`` asset: one clean, sorted trading day, checked before it is published."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial, reduce
from operator import add

import dagster as dg

from k2_assets.asset_facts import table_facts
from k2_assets.day_build import BACKFILL, BuiltDay, Extent, Gate, data_versions
from k2_assets.records.run_process import record_process
from k2_assets.records.run_scope import adopts, days_of_run, materialized
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import CLEAN_TRADES, TRADES
from k2_market.plans.build_rules import BuildRules, rules_of_build
from k2_market.plans.day_builds import DayBuild, Versions, days_naming
from k2_market.quality.trade_rules import (
    COMPLETE_AGAINST_RAW,
    TRADES_IN_ORDER,
    UNIQUE_TRADES,
    TradeChecks,
    prices_positive_rule,
)
from k2_market.schemas.tables import TRADES as TRADES_SCHEMA
from k2_market.trades.cleaning import clean_day
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.staged_day import StagedDay
from k2_resources.logs.structured_logging import correlation
from k2_resources.raw.amended_days import settled_parts
from k2_resources.raw.view import RawView

RAW_SNAPSHOT = "raw_snapshot_id"
"""Metadata name of the raw table's snapshot that a day's trades were made from."""


def trades_asset(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the feed's ``trades`` asset."""
    key = dg.AssetKey([feed.name, CLEAN_TRADES])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([feed.name, TRADES.raw_table])],
        partitions_def=days,
        backfill_policy=BACKFILL,
        code_version=BuildRules.of(feed).fingerprint,
        **table_facts(feed, CLEAN_TRADES, TRADES_SCHEMA, "clean"),
        pool=f"{feed.name}_build",
        group_name=feed.name,
        kinds={"polars", "iceberg"},
        description="Each trade of a session once: cancels and corrections are applied, trades that set no price or "
        "count for no volume are marked, rows are sorted by symbol and time. A wrong session is not published.",
    )
    def trades(
        context: dg.AssetExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        record_process(context)
        table = iceberg.day_table(feed.name, CLEAN_TRADES)
        raw, calendar = iceberg.raw_table(feed.name, TRADES).view(), TradingCalendar.of(feed)
        run_days = days_of_run(context, calendar, raw.day_versions)
        source = TradesSource.of(feed, raw, table, run_days, adopts(context))
        gate = Gate(context, key, table, calendar, {each.fingerprint: each for each in source.rules.values()})
        with correlation(context.run.run_id):
            made = gate.publish(run_days, partial(build_trades, source))
        made_from = {} if source.raw.snapshot_id is None else {RAW_SNAPSHOT: str(source.raw.snapshot_id)}
        yield from materialized(
            context,
            key,
            {day: {**each.metadata, **(made_from if each.made_from else {})} for day, each in made.items()},
            data_versions(made),
        )
        gate.close()

    return trades


@dataclass(frozen=True)
class TradesSource:
    """Holds all that some days' trades are made from.

    Attributes:
        feed: The feed.
        raw: The raw table, at one snapshot.
        reader: Reads the days at that snapshot.
        versions: The version of each day's raw rows.
        naming: For each day the later days that are known to name trades of it.
        rules: For each day the rules that it is built under.
    """

    feed: Feed
    raw: RawView
    reader: DayReader
    versions: Versions
    naming: Mapping[date, frozenset[date]]
    rules: Mapping[date, BuildRules]

    @classmethod
    def of(cls, feed: Feed, raw: RawView, published: DayTable, days: Sequence[date], adopt: bool) -> "TradesSource":
        """Gather it.

        Args:
            feed: The feed.
            raw: The raw table.
            published: The table of trades.
            days: The days to be built.
            adopt: They adopt the feed's current rules, whatever they were built under.
        """
        current, builds, kept = BuildRules.of(feed), published.builds(), published.rules()
        return cls(
            feed=feed,
            raw=raw,
            reader=raw.reader(days),
            versions=raw.day_versions,
            naming=days_naming(builds),
            rules={day: rules_of_build(current, builds.get(day), kept, adopt) for day in days},
        )


def build_trades(source: TradesSource, day: date, staged: StagedDay) -> BuiltDay:
    """Make the clean trades of a day, with what the gate asks: each once, all, in order, none wrongly eligible.

    Args:
        source: The raw rows and the rules.
        day: The trading day.
        staged: Takes the trades.
    """
    rules = source.rules[day]
    feed = rules.applied_to(source.feed)
    topics = tuple(source.raw.ledger.topic_names)
    later = source.naming.get(day, frozenset())
    judgement = TradeChecks(
        (UNIQUE_TRADES, COMPLETE_AGAINST_RAW, TRADES_IN_ORDER, prices_positive_rule(feed.price.may_be))
    )
    parts, about, arrived, sought = [], Counter[date](), Counter[date](), False
    for (settled,) in settled_parts(source.raw, source.reader, day, later, feed.ids.unique_within):
        clean = clean_day(settled.messages, feed.conditions, topic_order=topics, price_may_be=feed.price.may_be)
        staged.add(clean.trades)
        judgement.see(settled.messages, clean.trades)
        counts_of_part = clean.counts.with_repeated(settled.repeated_elsewhere, settled.ids_elsewhere)
        parts.append((counts_of_part, Extent.of(clean.trades, "exchange_timestamp")))
        about.update(settled.about_other_days)
        arrived.update(settled.from_other_days)
        sought |= settled.sought_in_vain
    *structural, prices = judgement.findings()
    counts, extent = (reduce(add, each) for each in zip(*parts, strict=True))
    return BuiltDay(
        findings=(*structural, *((prices,) if prices.numbers["eligible_nonpositive"] else ())),
        metadata={
            **asdict(counts),
            "amendments_of_other_days": about.total(),
            "amendments_from_other_days": arrived.total(),
            **extent.metadata,
        },
        made_from=DayBuild(
            version=source.versions.get(day, 0),
            rules=rules.fingerprint,
            others={each: source.versions.get(each, 0) for each in {*about, *later}},
            sought=source.raw.sequence_number if sought else None,
        ),
    )
