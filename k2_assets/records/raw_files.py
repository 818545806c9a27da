"""Describes the files of sessions of a raw table, for the materializations that report them."""

from collections.abc import Iterable
from datetime import date

import dagster as dg

from k2_assets.records.partitions import dates_of_session, rows_metadata
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_resources.iceberg.scan_files import files_by_day
from k2_resources.raw.view import RawView


def files_metadata(
    view: RawView, calendar: TradingCalendar, sessions: Iterable[date]
) -> dict[date, dict[str, int | dg.TableMetadataValue]]:
    """Make metadata of the rows, bytes and files that a raw table has of some sessions, closed dates before included.

    Args:
        view: The raw table.
        calendar: The feed's.
        sessions: The sessions.
    """
    dates = {session: dates_of_session(calendar, session, view.day_versions) for session in sessions}
    files = files_by_day(view.table, [day for days in dates.values() for day in days])
    return {
        session: {
            **rows_metadata(session, {day: files[day].rows for day in days}),
            "bytes": sum(files[day].bytes for day in days),
            "files": sum(files[day].files for day in days),
        }
        for session, days in dates.items()
    }
