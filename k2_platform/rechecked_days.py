"""Checks the raw rows of repaired days outside of a run, since their old checks would go on blocking builds."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from k2_assets.checks import BLOCKING, raw_findings
from k2_assets.records.run_scope import finding_metadata, severity_of
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.quality.finding import Finding
from k2_resources.raw.view import RawView


def recheck(feed: Feed, kind: RawKind, raw: RawView, instance: dg.DagsterInstance, days: Sequence[date]) -> None:
    """Report what the checks say of some days' raw rows now.

    Args:
        feed: Whose raw table it is.
        kind: What it holds.
        raw: The table as it is now.
        instance: Dagster's records.
        days: The trading days to look at.
    """
    reader = raw.reader(days)
    for day in days:
        for finding in raw_findings(feed, kind, raw, reader, day):
            instance.report_runless_asset_event(_evaluation(feed, kind, day, finding))


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
