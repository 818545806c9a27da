"""Checks the raw rows of repaired days outside of a run, since their old checks would go on blocking builds."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from k2_assets.checks import BLOCKING, raw_findings_of_sessions
from k2_assets.records.partitions import dates_of_session, sessions_of
from k2_assets.records.run_scope import finding_metadata, severity_of
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.quality.finding import Finding
from k2_resources.raw.view import RawView


def recheck(feed: Feed, kind: RawKind, raw: RawView, instance: dg.DagsterInstance, days: Sequence[date]) -> None:
    """Report what the checks say now of the raw rows of some days' sessions.

    Args:
        feed: Whose raw table it is.
        kind: What it holds.
        raw: The table as it is now.
        instance: Dagster's records.
        days: The days to look at.
    """
    calendar = TradingCalendar.of(feed)
    sessions = {each: dates_of_session(calendar, each, raw.day_versions) for each in sessions_of(calendar, days)}
    for session, findings in raw_findings_of_sessions(feed, kind, raw, sessions).items():
        for finding in findings:
            instance.report_runless_asset_event(_evaluation(feed, kind, session, finding))


def _evaluation(feed: Feed, kind: RawKind, day: date, finding: Finding) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([feed.name, kind.raw_table]),
        check_name=finding.check,
        passed=finding.passed,
        severity=severity_of(finding),
        description=finding.description,
        metadata=finding_metadata(finding),
        blocking=finding.check in BLOCKING,
        partition=day.isoformat(),
    )
