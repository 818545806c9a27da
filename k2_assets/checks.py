"""Defines the asset checks of a feed's tables, one trading day each, around the rules of ``k2_market.quality``.

They read what is published, so they say of the table itself what holds, whoever wrote it, and can be run
alone on any day.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import partial

import dagster as dg
import pyarrow as pa

from k2_assets.records.check_history import figures_of_other_days
from k2_assets.records.run_scope import checked, days_to_check, finding_metadata, metadata_of_days, severity_of
from k2_assets.trades import RAW_SNAPSHOT
from k2_market.errors import CalendarError, K2Error
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.trades import CLEAN_TRADES, TRADES
from k2_market.plans.build_rules import BuildRules, rules_of_days
from k2_market.plans.day_builds import DayBuild
from k2_market.quality.bar_rules import COMPARED_TRADES, bar_invariants, bars_complete, roll_up_identity
from k2_market.quality.doubtful_trades import PRICE_JUMPS, price_band_rule, repeated_content_rule
from k2_market.quality.finding import Finding, Severity, findings_of_session
from k2_market.quality.ledger_checks import LEDGER_VERIFIED, OFFSETS_RECONCILE
from k2_market.quality.ledger_rules import offsets_reconcile
from k2_market.quality.structure_rules import ledger_verified
from k2_market.quality.trade_rules import (
    COLUMNS_JUDGED,
    COMPLETE_AGAINST_RAW,
    TRADES_IN_ORDER,
    UNIQUE_TRADES,
    UNMATCHED_AMENDMENTS,
    TradeChecks,
    TradeRule,
    inside_session_rule,
    prices_positive_rule,
)
from k2_market.schemas.tables import BAR_INTERVALS, DAY, BarInterval
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.day_table import DayTable
from k2_resources.proofs.snapshot_files import structure
from k2_resources.raw.amended_days import settled_parts
from k2_resources.raw.view import RawView
from k2_resources.runtime.process import arrow_from_system

REPEATED_CONTENT = "repeated_content"
TRADE_CHECKS = {
    "unique_trades": "Each trade is there once.",
    "complete_against_raw": "Every live trade of the raw rows is there, and nothing else.",
    "unmatched_amendments": "Every cancel and correction names a trade that the day, or a day before it, reports.",
    "trades_in_order": "The order of each symbol's trades, which decides open and close, is that of the market.",
    "prices_positive": "No trade has a price that its feed may not have, or a quantity below zero.",
    "inside_session": "Trades that set prices lie in the exchange's session.",
    "price_jumps": "No price leaves those around it and comes back.",
    "price_band": "Prices are of the scale of the day before.",
    REPEATED_CONTENT: "No more trades than usual are alike but for their ids.",
}
DAYS_BEFORE = timedelta(days=10)
"""Reach back for the close that a day's prices are compared with."""

CURRENT_RULES = "current_rules"
BARS_COMPLETE = "bars_complete"
BAR_INVARIANTS = "bar_invariants"
ROLL_UP_IDENTITY = "roll_up_identity"
_BAR_CHECKS = {
    BAR_INVARIANTS: "low <= open, close, vwap <= high; one bar an interval; nothing negative.",
    BARS_COMPLETE: "Every symbol with eligible trades has bars: none is kept back since its sums are too large.",
}
_DAY_BAR_CHECKS = {**_BAR_CHECKS, ROLL_UP_IDENTITY: "The daily bar equals the ticks, computed another way."}

BLOCKING = frozenset(
    {
        LEDGER_VERIFIED,
        OFFSETS_RECONCILE,
        "unique_trades",
        "complete_against_raw",
        "trades_in_order",
        BAR_INVARIANTS,
        ROLL_UP_IDENTITY,
    }
)
"""Checks whose failure makes bars wrong. The others make them doubtful."""


def bar_checks_of(interval: BarInterval) -> dict[str, str]:
    """Return the checks of a bar table, by name, and what each states."""
    return _DAY_BAR_CHECKS if interval is DAY else _BAR_CHECKS


def check_keys(feed: str, kinds: Sequence[RawKind]) -> list[dg.AssetCheckKey]:
    """List the checks of a feed's assets of some kinds, by its name."""
    of_derived = {CLEAN_TRADES: TRADE_CHECKS, **{each.table: bar_checks_of(each) for each in BAR_INTERVALS}}
    names = {
        table: kind.checks if table == kind.raw_table else of_derived[table] for kind in kinds for table in kind.tables
    }
    return [dg.AssetCheckKey(dg.AssetKey([feed, table]), check) for table, checks in names.items() for check in checks]


def raw_checks(feed: Feed, kind: RawKind, days: dg.DailyPartitionsDefinition) -> dg.AssetChecksDefinition:
    """Make the checks of a feed's raw table of a kind."""
    asset = dg.AssetKey([feed.name, kind.raw_table])

    @dg.multi_asset_check(
        name=f"{feed.name}__{kind.raw_table}_checks",
        description=f"Checks what {asset.to_user_string()} holds of a session against its ledger and its messages.",
        specs=_specs(asset, kind.checks, days),
        can_subset=True,
    )
    def raw_table_checks(
        context: dg.AssetCheckExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        view = iceberg.raw_table(feed.name, kind).view()
        with arrow_from_system():
            sessions = days_to_check(context, asset, TradingCalendar.of(feed), view.day_versions)
            findings = raw_findings_of_sessions(feed, kind, view, sessions)
        yield from checked(context, asset, findings, BLOCKING)

    return raw_table_checks


def trade_checks(feed: Feed, days: dg.DailyPartitionsDefinition) -> dg.AssetChecksDefinition:
    """Return the checks of ``trades``."""
    asset = dg.AssetKey([feed.name, CLEAN_TRADES])

    @dg.multi_asset_check(
        name=f"{feed.name}__trades_checks",
        description=f"Checks the trades of a session in {asset.to_user_string()}, against its raw rows and the market.",
        specs=_specs(asset, TRADE_CHECKS, days),
        can_subset=True,
    )
    def trades_checks(
        context: dg.AssetCheckExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        table = iceberg.day_table(feed.name, CLEAN_TRADES)
        sessions = days_to_check(context, asset, TradingCalendar.of(feed), table.builds())
        run_days = [day for days in sessions.values() for day in days]
        raw = _raw_days(
            iceberg.raw_table(feed.name, TRADES).view(), metadata_of_days(context, asset, sessions, RAW_SNAPSHOT)
        )
        trades, builds = table.reader_and_builds(run_days)
        rules = table.rules()
        daily = iceberg.day_table(feed.name, DAY.table)
        shares: dict[date, float] = {}
        findings = {}
        for day in run_days:
            of_day = TradesOfDay(
                raw[day], trades, builds.get(day), closes_before(daily, day), _usual(context, asset, day, shares)
            )
            findings[day] = trade_findings(feed_of_build(feed, of_day.build, rules), of_day, day)
            shares[day] = _share(findings[day])
        yield from checked(context, asset, _of_sessions(sessions, findings), BLOCKING)

    return trades_checks


def _usual(
    context: dg.AssetCheckExecutionContext, asset: dg.AssetKey, day: date, of_run: Mapping[date, float]
) -> list[float]:
    """Return the shares of trades alike on the days before a day: of earlier runs, and of this one."""
    key = dg.AssetCheckKey(asset, REPEATED_CONTENT)
    known = figures_of_other_days(context.instance, key, "share", day)
    return list({**known, **{each: share for each, share in of_run.items() if each < day}}.values())[-10:]


def _share(findings: Iterable[Finding]) -> float:
    return next(float(each.numbers["share"]) for each in findings if each.check == REPEATED_CONTENT)


def closes_before(daily: DayTable, day: date) -> dict[str, Decimal]:
    """Read each symbol's close on the last day before a day, within ``DAYS_BEFORE``, that has bars."""
    earlier = [each for each in daily.builds() if day - DAYS_BEFORE <= each < day]
    if not earlier:
        return {}
    bars = daily.read_day(max(earlier), "symbol", "close")
    pairs = zip(bars["symbol"].to_pylist(), bars["close"].to_pylist(), strict=True)
    return {symbol: close for symbol, close in pairs if close is not None}


def rules_check(feed: Feed) -> dg.AssetChecksDefinition:
    """Check that all days of ``trades`` were built under the rules of the feed's file; one result for the table."""

    @dg.asset_check(
        name=CURRENT_RULES,
        asset=dg.AssetKey([feed.name, CLEAN_TRADES]),
        description="Every day was built under the rules that the feed's file has.",
    )
    def current_rules(iceberg: IcebergCatalogResource) -> dg.AssetCheckResult:
        finding = rules_finding(feed, iceberg)
        return dg.AssetCheckResult(
            passed=finding.passed,
            severity=severity_of(finding),
            description=finding.description,
            metadata=finding_metadata(finding),
        )

    return current_rules


def rules_finding(feed: Feed, iceberg: IcebergCatalogResource) -> Finding:
    """Find the days that were built under other rules than those of the feed's file, of the table made last."""
    builds = iceberg.day_table(feed.name, DAY.table).builds()
    return rules_of_days(builds, BuildRules.of(feed), feed.name)


def bar_checks(feed: Feed, days: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of every bar table."""
    return [_bar_checks_of(feed, days, interval) for interval in BAR_INTERVALS]


def _bar_checks_of(feed: Feed, days: dg.DailyPartitionsDefinition, interval: BarInterval) -> dg.AssetChecksDefinition:
    asset = dg.AssetKey([feed.name, interval.table])

    @dg.multi_asset_check(
        name=f"{feed.name}__{interval.table}_checks",
        description=f"Checks the bars of a session in {asset.to_user_string()}, each by itself and against its trades.",
        specs=_specs(asset, bar_checks_of(interval), days),
        can_subset=True,
    )
    def bars_checks(
        context: dg.AssetCheckExecutionContext, iceberg: IcebergCatalogResource
    ) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        table = iceberg.day_table(feed.name, interval.table)
        sessions = days_to_check(context, asset, TradingCalendar.of(feed), table.builds())
        run_days = [day for days in sessions.values() for day in days]
        bars, trades = table.reader(run_days), iceberg.day_table(feed.name, CLEAN_TRADES).reader(run_days)
        findings = {day: bar_findings(feed, interval, bars, trades, day) for day in run_days}
        yield from checked(context, asset, _of_sessions(sessions, findings), BLOCKING)

    return bars_checks


def _of_sessions(
    sessions: Mapping[date, Iterable[date]], findings: Mapping[date, Sequence[Finding]]
) -> dict[date, tuple[Finding, ...]]:
    """Join the findings of each session's dates."""
    return {
        session: findings_of_session(session, {day: findings[day] for day in of}) for session, of in sessions.items()
    }


def raw_findings_of_sessions(
    feed: Feed, kind: RawKind, view: RawView, sessions: Mapping[date, Sequence[date]]
) -> dict[date, tuple[Finding, ...]]:
    """Apply the rules to the raw rows of some sessions; arguments as for ``raw_findings``.

    Args:
        feed: The feed.
        kind: The kind of its rows.
        view: The raw table.
        sessions: The dates to look at of each session.
    """
    days = [day for of_session in sessions.values() for day in of_session]
    reader = view.reader(days)
    return _of_sessions(sessions, {day: raw_findings(feed, kind, view, reader, day) for day in days})


def raw_findings(feed: Feed, kind: RawKind, view: RawView, reader: DayReader, day: date) -> tuple[Finding, ...]:
    """Tell what the rules say of a day's raw rows; of rows that can't be read, or trusted, just that.

    Args:
        feed: The feed.
        kind: What its raw table holds; it has the rules.
        view: The raw table.
        reader: Reads its rows.
        day: The trading day.
    """
    verified = ledger_verified(day, *structure(view.table, day))
    rows = partial(reader.day_batches_compactly, day)
    try:
        return (
            verified,
            offsets_reconcile(day, rows, view.rows, view.ledger, view.all_offsets),
            *(rule.judge(feed, rows) for rule in kind.rules),
        )
    except (K2Error, OSError, pa.ArrowException) as error:
        if verified.passed:
            raise
        return (verified, *(_not_evaluated(name, error) for name in kind.checks if name != LEDGER_VERIFIED))


def _not_evaluated(check: str, error: Exception) -> Finding:
    severity = Severity.ERROR if check in BLOCKING else Severity.WARN
    return Finding(check, False, severity, f"Not evaluated, see {LEDGER_VERIFIED}: {error}", numbers={})


RawDay = tuple[RawView, DayReader]
"""A raw table at one snapshot, and what reads a day of it there."""


def _raw_days(view: RawView, made_from: Mapping[date, str | None]) -> dict[date, RawDay]:
    """Find for each day the raw rows that its trades were made from: those that came since are the next build's.

    Args:
        view: The raw table.
        made_from: The snapshot that each day was made from, where that is known.
    """
    by_snapshot: dict[str | None, list[date]] = {}
    for day, snapshot_id in made_from.items():
        by_snapshot.setdefault(snapshot_id, []).append(day)
    found = {}
    for snapshot_id, days in by_snapshot.items():
        then = view.at(None if snapshot_id is None else int(snapshot_id))
        found[snapshot_id] = (then, then.reader(days))
    return {day: found[snapshot_id] for day, snapshot_id in made_from.items()}


@dataclass(frozen=True)
class TradesOfDay:
    """Holds the tables that the rules of a day's trades need.

    Attributes:
        raw: The raw rows that the trades were made from.
        trades: Reads the trades.
        build: What they were made from.
        closes: Each symbol's close before the day.
        usual_shares: The shares of trades alike but for their ids, of earlier days.
    """

    raw: RawDay
    trades: DayReader
    build: DayBuild | None
    closes: Mapping[str, Decimal] = field(default_factory=dict)
    usual_shares: Sequence[float] = ()


def feed_of_build(feed: Feed, build: DayBuild | None, rules: Mapping[str, BuildRules]) -> Feed:
    """Give a feed as its file was when a day was built, where that is known: the day is held against those rules."""
    kept = None if build is None else rules.get(build.rules)
    return feed if kept is None else kept.applied_to(feed)


def trade_findings(feed: Feed, found: TradesOfDay, day: date) -> tuple[Finding, ...]:
    """Apply the rules to a day's published trades."""
    judgement = TradeChecks(trade_rules(feed, day, found.closes, found.usual_shares))
    later = [] if found.build is None else [other for other in found.build.others if other > day]
    published = found.trades.read_day_compactly(day, *COLUMNS_JUDGED)
    for settled, rows in settled_parts(*found.raw, day, later, feed.ids.unique_within, published):
        judgement.see(settled.messages, rows)
    return judgement.findings()


def trade_rules(
    feed: Feed, day: date, closes: Mapping[str, Decimal], usual_shares: Sequence[float]
) -> tuple[TradeRule, ...]:
    """Make the rules of a day's trades, in the order of ``TRADE_CHECKS``; arguments as in ``TradesOfDay``."""
    return (
        UNIQUE_TRADES,
        COMPLETE_AGAINST_RAW,
        UNMATCHED_AMENDMENTS,
        TRADES_IN_ORDER,
        prices_positive_rule(feed.price.may_be),
        _in_session(feed, day),
        PRICE_JUMPS,
        price_band_rule(closes),
        repeated_content_rule(usual_shares),
    )


def bar_findings(
    feed: Feed, interval: BarInterval, bars: DayReader, trades: DayReader, day: date
) -> tuple[Finding, ...]:
    """Tell what the rules say of a day's published bars."""
    rows = bars.read_day(day)
    of_all = (
        bar_invariants(rows, feed.price.may_be),
        bars_complete(interval, rows, partial(trades.read_day_compactly, day)),
    )
    if interval is DAY:
        return *of_all, roll_up_identity(rows, trades.read_day_compactly(day, *COMPARED_TRADES))
    return of_all


def _in_session(feed: Feed, day: date) -> TradeRule:
    before, after = feed.session.minutes_before, feed.session.minutes_after
    try:
        return inside_session_rule(TradingCalendar.of(feed).session(day), before, after)
    except CalendarError as error:
        return inside_session_rule(None, before, after, closed=str(error))


def _specs(asset: dg.AssetKey, checks: dict[str, str], days: dg.DailyPartitionsDefinition) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=states, blocking=name in BLOCKING, partitions_def=days)
        for name, states in checks.items()
    ]
