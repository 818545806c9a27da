"""Makes a feed's assets, checks and jobs of a kind from its TOML file, so that a new exchange is a new file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from k2_assets.asset_facts import owners_of
from k2_assets.bars import minute_bars_asset, rolled_up_bars_asset
from k2_assets.checks import bar_checks, raw_checks, rules_check, trade_checks
from k2_assets.maintenance import maintenance_asset
from k2_assets.names import (
    build_job_name,
    family_name,
    ingest_job_name,
    maintenance_asset_name,
    maintenance_job_name,
)
from k2_assets.raw_table import raw_table_asset
from k2_assets.records.partitions import Closures, trading_days
from k2_assets.records.run_tags import FEED_TAG
from k2_assets.topic import topic_asset
from k2_assets.trades import trades_asset
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.trades import TRADES
from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS

# Checks and automation come back to the run's own process; a process for each step would cost more than the step.
IN_PROCESS = dg.in_process_executor


@dataclass(frozen=True)
class FeedFamily:
    """Holds a feed's assets of one kind, their checks, and the jobs that make them; no build where none is derived."""

    feed: Feed
    kind: RawKind
    topic: dg.AssetSpec
    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]
    ingest_job: UnresolvedAssetJobDefinition
    build_job: UnresolvedAssetJobDefinition | None
    maintenance_job: UnresolvedAssetJobDefinition

    @property
    def name(self) -> str:
        """Name the family, as its sensors' names begin."""
        return family_name(self.feed.name, self.kind)

    @property
    def jobs(self) -> list[UnresolvedAssetJobDefinition]:
        """List the jobs that there are."""
        return [job for job in (self.ingest_job, self.build_job, self.maintenance_job) if job is not None]


@dataclass(frozen=True)
class DerivedAssets:
    """Holds the assets that are made of a raw table, and their checks."""

    assets: Sequence[dg.AssetsDefinition] = ()
    checks: Sequence[dg.AssetChecksDefinition] = ()


def feed_family(feed: Feed, kind: RawKind, closures: Closures | None = None) -> FeedFamily:
    """Make a feed's family of a kind; its kind and what is derived of it are all that tells one from another.

    Args:
        feed: The feed.
        kind: The kind of its messages.
        closures: Its closed dates; looked up unless they are given.

    Raises:
        ValueError: The kind has derived tables that nothing here makes.
    """
    if kind.derived and kind not in _DERIVED:
        raise ValueError(f"kind {kind.name}: nothing makes its derived tables {', '.join(kind.derived)}")
    days = trading_days(feed, closures)
    derived = _DERIVED[kind](feed, days) if kind.derived else DerivedAssets()
    built = [dg.AssetKey([feed.name, name]) for name in kind.derived]
    maintenance = dg.AssetKey([feed.name, maintenance_asset_name(kind)])
    return FeedFamily(
        feed=feed,
        kind=kind,
        topic=topic_asset(feed, kind),
        assets=[raw_table_asset(feed, kind, days), *derived.assets, maintenance_asset(feed, kind, days)],
        checks=[raw_checks(feed, kind, days), *derived.checks],
        ingest_job=_job(ingest_job_name(feed.name, kind), feed, [dg.AssetKey([feed.name, kind.raw_table])]),
        build_job=_job(build_job_name(feed.name, kind), feed, built) if built else None,
        maintenance_job=_job(maintenance_job_name(feed.name, kind), feed, [maintenance]),
    )


def _made_of_trades(feed: Feed, days: dg.DailyPartitionsDefinition) -> DerivedAssets:
    return DerivedAssets(
        assets=[trades_asset(feed, days), minute_bars_asset(feed, days), rolled_up_bars_asset(feed, days)],
        checks=[trade_checks(feed, days), rules_check(feed), *bar_checks(feed, days)],
    )


_DERIVED: Mapping[RawKind, Callable[[Feed, dg.DailyPartitionsDefinition], DerivedAssets]] = {TRADES: _made_of_trades}
"""Makes the assets that are derived from each kind's raw table."""


def _job(name: str, feed: Feed, keys: Sequence[dg.AssetKey]) -> UnresolvedAssetJobDefinition:
    selection = dg.AssetSelection.assets(*keys)
    return dg.define_asset_job(
        name,
        selection=selection | dg.AssetSelection.checks_for_assets(*keys),
        executor_def=IN_PROCESS,
        owners=owners_of(feed),
        tags={FEED_TAG: feed.name, "dagster/max_runtime": str(MAX_RUNTIME_SECONDS)},
        description=f"Makes {', '.join(key.to_user_string() for key in keys)}, and checks what it made. "
        "Sensors start it; it may be started by hand at any time.",
    )
