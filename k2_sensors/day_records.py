"""What Dagster's records say of a single day of raw rows: how many there are, when they were last checked."""

from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter

from k2_market.ledger_rules import OFFSETS_RECONCILE


def latest_report(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date) -> dg.EventLogRecord | None:
    """The latest materialization of a day of a raw table."""
    of_day = dg.AssetRecordsFilter(asset_key=raw, asset_partitions=[day.isoformat()])
    return next(iter(instance.fetch_materializations(of_day, limit=1).records), None)


def rows_reported(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date) -> int:
    """How many rows a day had by its latest report; none where nothing says."""
    report = latest_report(instance, raw, day)
    made = None if report is None else report.asset_materialization
    counted = None if made is None else made.metadata.get("dagster/row_count")
    return counted.value if isinstance(counted, dg.IntMetadataValue) and counted.value is not None else 0


def last_checked(instance: dg.DagsterInstance, raw: dg.AssetKey, day: date) -> datetime | None:
    """When the checks of a day's raw rows were last begun."""
    # One check stands for all: they are one op.
    key = dg.AssetCheckKey(raw, OFFSETS_RECONCILE)
    of_day = PartitionKeyFilter(key=day.isoformat())
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key], of_day).get(key)
    return None if found is None else datetime.fromtimestamp(found.create_timestamp, UTC)
