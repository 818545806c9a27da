"""Decodes dead letters again whose only fault was that their trading day had not begun."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from k2_assets.records.partitions import by_session
from k2_assets.records.raw_files import files_metadata
from k2_market.feeds.day_window import DayWindow
from k2_market.kinds.raw_kind import RawKind
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.raw.repair import DeadLetterRepair
from k2_resources.raw.reread_messages import Decoder
from k2_resources.raw.rewrite import RawRewriter


def retry_dead_letters(
    iceberg: IcebergCatalogResource,
    feed: str,
    kind: RawKind,
    registry: SchemaRegistry,
    window: DayWindow,
    filed_under: Iterable[date],
) -> dict[date, dict[str, Any]]:
    """Decode the dead letters of some days again, and move those that decode to their own day; a commit a day.

    Args:
        iceberg: Where the raw table is.
        feed: Whose it is.
        kind: What it holds.
        registry: Knows the messages' schemas.
        window: The trading days that the feed may have now.
        filed_under: The days to look at.

    Returns:
        For each session that was looked at or got rows the metadata of its materialization.
    """
    rewriter, decoder = RawRewriter(iceberg.catalog(), feed, kind), Decoder(registry, kind.messages, window)
    gained: dict[date, int] = {}
    for day in filed_under:
        repair = DeadLetterRepair(day, decoder)
        rewriter.commit(repair.decide)
        assert repair.found is not None
        gained.setdefault(day, 0)
        for own_day, rows in repair.found.decoded.items():
            gained[own_day] = gained.get(own_day, 0) + rows
    view, calendar = rewriter.view(), window.calendar
    sessions = by_session(calendar, gained)
    return {
        session: {
            **files,
            "rows_added": sum(sessions[session].values()),
            "note": "Dead letters were decoded again, since the trading day that they name has come.",
            "snapshot_id": str(view.snapshot_id),
        }
        for session, files in files_metadata(view, calendar, sessions).items()
    }
