"""Reads from Dagster's records how many raw rows a day has and when they were last checked."""

from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter

from k2_assets.records.partitions import PARTITION_ROWS, day_of
from k2_assets.records.run_scope import latest_record, metadata_in
from k2_market.quality.ledger_checks import OFFSETS_RECONCILE

_ROWS_BEFORE = "dagster/row_count"
"""The name under which earlier versions of K2 reported a day's rows."""


def rows_reported(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date) -> int:
    """Read how many rows a session had by its latest report; none where nothing says."""
    latest = latest_record(instance, raw, day)
    return int(metadata_in(latest, PARTITION_ROWS) or metadata_in(latest, _ROWS_BEFORE) or 0)


def report_numbers(instance: dg.DagsterInstance, raw: dg.AssetKey) -> dict[date, int]:
    """Read for each partition that was ever reported the number of the event that reported its latest rows."""
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        raw, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    return {day_of(partition): number for partition, number in latest.items()}


def last_checked(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date) -> datetime | None:
    """Tell when the checks of a day's raw rows were last begun."""
    # One check stands for all: they are one op.
    key = dg.AssetCheckKey(raw, OFFSETS_RECONCILE)
    of_day = PartitionKeyFilter(key=day.isoformat())
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key], of_day).get(key)
    return None if found is None else datetime.fromtimestamp(found.create_timestamp, UTC)
