"""Reads what a feed's check counted on earlier days, for rules that compare a day with what is usual."""

from collections.abc import Iterable
from datetime import date

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
    AssetCheckPartitionInfo,
)

from k2_assets.records.partitions import day_of
from k2_market.feeds.trading_calendar import TradingCalendar

_EXECUTIONS = 100
"""Latest executions of the check that are looked through."""


def figures_of_other_days(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, name: str, day: date, most: int = 10
) -> dict[date, float]:
    """Read a figure of a check from its latest passed evaluations, of the days nearest before a day.

    Args:
        instance: Dagster's records.
        key: The check.
        name: The figure's name in the evaluation's metadata.
        day: The day that is compared.
        most: How many days at the most.
    """
    found: dict[date, float] = {}
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=_EXECUTIONS):
        event = None if record.event is None else record.event.dagster_event
        if record.status is not AssetCheckExecutionRecordStatus.SUCCEEDED or event is None:
            continue
        evaluation = event.asset_check_evaluation_data
        value = evaluation.metadata.get(name)
        if evaluation.partition is None or value is None or not isinstance(value.value, int | float):
            continue
        of_day = day_of(evaluation.partition)
        if of_day < day:
            found.setdefault(of_day, float(value.value))
    return {each: found[each] for each in sorted(found)[-most:]}


def latest_of_sessions(
    infos: Iterable[AssetCheckPartitionInfo], calendar: TradingCalendar
) -> dict[tuple[dg.AssetCheckKey, date], AssetCheckPartitionInfo]:
    """Find the latest outcome of each check for each session; a date that once was a partition counts for its session.

    Args:
        infos: Outcomes by partition, in any order.
        calendar: The feed's.
    """
    latest: dict[tuple[dg.AssetCheckKey, date], AssetCheckPartitionInfo] = {}
    for info in sorted(infos, key=lambda each: each.latest_check_event_storage_id):
        if info.partition_key is not None:
            latest[info.check_key, calendar.reporting_session(day_of(info.partition_key))] = info
    return latest
