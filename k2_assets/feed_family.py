"""Makes a feed's assets, checks and jobs from its TOML file, so that a new exchange is a new file."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from k2_assets.bars import minute_bars_asset, rolled_up_bars_asset
from k2_assets.checks import bar_checks, raw_checks, rules_check, trade_checks
from k2_assets.maintenance import maintenance_asset
from k2_assets.names import MAINTENANCE, RAW_TRADES, TRADES, build_job_name, ingest_job_name, maintenance_job_name
from k2_assets.raw_trades import raw_trades_asset
from k2_assets.records.partitions import trading_days
from k2_assets.trades import trades_asset
from k2_market.feeds.feed import Feed
from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS
from k2_market.schemas.tables import BAR_INTERVALS

# Checks and automation come back to the run's own process; a process for each step would cost more than the step.
IN_PROCESS = dg.in_process_executor


@dataclass(frozen=True)
class FeedFamily:
    """A feed's assets, their checks, and the jobs that make them."""

    feed: Feed
    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]
    ingest_job: UnresolvedAssetJobDefinition
    build_job: UnresolvedAssetJobDefinition
    maintenance_job: UnresolvedAssetJobDefinition


def feed_family(feed: Feed) -> FeedFamily:
    """The family of a feed."""
    days = trading_days(feed)
    built = [dg.AssetKey([feed.name, name]) for name in (TRADES, *(each.table for each in BAR_INTERVALS))]
    return FeedFamily(
        feed=feed,
        assets=[
            raw_trades_asset(feed, days),
            trades_asset(feed, days),
            minute_bars_asset(feed, days),
            rolled_up_bars_asset(feed, days),
            maintenance_asset(feed, days),
        ],
        checks=[raw_checks(feed, days), trade_checks(feed, days), rules_check(feed), *bar_checks(feed, days)],
        ingest_job=_job(ingest_job_name(feed.name), feed, [dg.AssetKey([feed.name, RAW_TRADES])]),
        build_job=_job(build_job_name(feed.name), feed, built),
        maintenance_job=_job(maintenance_job_name(feed.name), feed, [dg.AssetKey([feed.name, MAINTENANCE])]),
    )


def _job(name: str, feed: Feed, keys: Sequence[dg.AssetKey]) -> UnresolvedAssetJobDefinition:
    selection = dg.AssetSelection.assets(*keys)
    return dg.define_asset_job(
        name,
        selection=selection | dg.AssetSelection.checks_for_assets(*keys),
        executor_def=IN_PROCESS,
        tags={"k2/feed": feed.name, "dagster/max_runtime": str(MAX_RUNTIME_SECONDS)},
        description=f"Makes {', '.join(key.to_user_string() for key in keys)}, and checks it.",
    )
