"""Reports raw rows to Dagster that were committed without a report: by runs that died after it, and by repairs.

Rows and ledger are safe at the commit. The raw table's day versions say which days have new rows, and the latest
materialization of a day says which version it reported; the rest follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from k2_assets.records.partitions import latest_of_session
from k2_assets.records.raw_files import files_metadata
from k2_assets.records.run_records import IN_FLIGHT
from k2_assets.records.run_scope import reported_versions
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_resources.raw.view import RawView

MOST_REPORTS = 500
"""Most days reported at once; a longer list goes on at the next tick."""

_ALL_COMPARED_FOR = timedelta(minutes=10)


@dataclass
class ReportedDays:
    """Remembers up to which version a table's days were reported, so that a tick compares newer ones alone.

    All are compared anew every ten minutes: events may go, by a wipe in the UI.
    """

    _table: str = ""
    _up_to: int = 0
    _compared: datetime | None = None

    def newer(self, raw: RawView, now: datetime) -> dict[date, int]:
        """List the days whose version is not known to be reported."""
        table = "" if raw.table is None else str(raw.table.metadata.table_uuid)
        fresh = self._compared is not None and timedelta(0) <= now - self._compared < _ALL_COMPARED_FOR
        if table != self._table or not fresh:
            self._table, self._up_to, self._compared = table, 0, now
        return {day: version for day, version in raw.day_versions.items() if version > self._up_to}

    def remember(self, up_to: int) -> None:
        """Take note that all days of this version and older ones are reported."""
        self._up_to = up_to


def report_unreported(
    feed: Feed, kind: RawKind, raw: RawView, instance: dg.DagsterInstance, reported: ReportedDays | None = None
) -> list[date]:
    """Report a materialization for each day whose rows are newer than its last report, and whose run has ended.

    Args:
        feed: Whose raw table it is.
        kind: What it holds.
        raw: The table as it is now.
        instance: Dagster's records.
        reported: What is known from earlier calls, for the same feed and records.

    Returns:
        The sessions reported.
    """
    memory = reported or ReportedDays()
    newer = memory.newer(raw, datetime.now(UTC))
    if not newer:
        return []
    asset, calendar = dg.AssetKey([feed.name, kind.raw_table]), TradingCalendar.of(feed)
    # What was reported for a date that was a partition of its own then counts for its session.
    known = latest_of_session(
        calendar, {day: _number(version) for day, version in reported_versions(instance, asset).items()}
    )
    newest = latest_of_session(calendar, newer)
    behind = {session: version for session, version in newest.items() if version > known.get(session, 0)}
    waiting = _of_runs_in_flight(raw, behind, instance)
    due = [session for session in behind if session not in waiting][:MOST_REPORTS]
    for session, files in files_metadata(raw, calendar, due).items():
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset,
                partition=session.isoformat(),
                metadata={**files, "note": "Rows of a run that ended before its report, or of a repair."},
                tags={DATA_VERSION_TAG: str(behind[session])},
            )
        )
    left = [behind[session] for session in behind if session not in due]
    memory.remember(min(left) - 1 if left else raw.sequence_number)
    return due


def _number(version: str) -> int:
    """Read a reported version; 0 where something else than K2 reported it."""
    return int(version) if version.isdecimal() else 0


def _of_runs_in_flight(raw: RawView, versions: Mapping[date, int], instance: dg.DagsterInstance) -> frozenset[date]:
    """List the days whose latest rows are of a run that is still under way: it will report them itself."""
    wanted = frozenset(versions.values())
    run_of = {each.sequence_number: each.run_id for each in raw.commits if each.sequence_number in wanted}
    run_ids = sorted(set(run_of.values()))
    runs = instance.get_runs(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
    under_way = {run.run_id for run in runs if run.status in IN_FLIGHT}
    return frozenset(day for day, version in versions.items() if run_of.get(version) in under_way)
