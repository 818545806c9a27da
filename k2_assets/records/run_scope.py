"""Decides which trading days a run covers, and reports the result of each.

A run belongs to one partition, the first of its days; its other days stand in a tag, so that a backlog of small
days costs one run. Their materializations and check results are logged as events of their own partition.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from k2_assets.records.partitions import CLOSED_DATES, dates_of_session, day_of, sessions_of
from k2_assets.records.run_tags import DAYS_TAG, REBUILD_TAG, VERSION_TAG, value_of
from k2_market.errors import K2Error
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.quality.finding import Example, Finding, Severity

_Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext


def days_tag(days: Iterable[date]) -> dict[str, str]:
    """Return the run tag that names a run's days."""
    return {DAYS_TAG: json.dumps([day.isoformat() for day in days])}


class WrongTag(K2Error):
    """A run's tag, which anyone may write, is not what K2 writes there."""


def tagged_days(tags: Mapping[str, str]) -> tuple[date, ...]:
    """Return the days that a run's tags name: those of its own tag, else its partitions; none if those are no days.

    For whoever looks at runs of all kinds: one that was started with tags that say nothing must not keep a sensor from
    looking at the others.
    """
    try:
        return _named_days(tags)
    except WrongTag:
        return ()


def sessions_of_run(context: _Context, calendar: TradingCalendar) -> tuple[date, ...]:
    """List the sessions that this run is about: those of the days in its tag, or its partitions.

    Raises:
        WrongTag: The tag names no days.
    """
    tagged = value_of(context.run.tags, DAYS_TAG) is not None
    named = _named_days(context.run.tags) if tagged else map(day_of, context.partition_keys)
    return sessions_of(calendar, named)


def days_of_run(context: _Context, calendar: TradingCalendar, filled: Collection[date]) -> tuple[date, ...]:
    """List the days that an asset of this run makes: its sessions, each with the closed dates before it.

    Args:
        context: The run's.
        calendar: The feed's.
        filled: Days that the asset's source has rows of.

    Raises:
        WrongTag: The run's tag names no days.
    """
    sessions = sessions_of_run(context, calendar)
    return tuple(day for session in sessions for day in dates_of_session(calendar, session, filled))


def _named_days(tags: Mapping[str, str]) -> tuple[date, ...]:
    days, partition = value_of(tags, DAYS_TAG), tags.get(PARTITION_NAME_TAG)
    first = tags.get(ASSET_PARTITION_RANGE_START_TAG, partition)
    last = tags.get(ASSET_PARTITION_RANGE_END_TAG, partition)
    try:
        if days is not None:
            return tuple(day_of(key) for key in json.loads(days))
        if first is None or last is None:
            return ()
        return tuple(day_of(first) + timedelta(n) for n in range((day_of(last) - day_of(first)).days + 1))
    except (ValueError, TypeError) as error:
        found = f"{DAYS_TAG} {days!r}" if days is not None else f"partition {partition or first!r}"
        raise WrongTag(f"run tag: found {found}, expected trading days as YYYY-MM-DD, in a JSON list") from error


def adopts(context: _Context) -> bool:
    """Tell whether a run's days adopt the feed's current rules: it was asked for by a person, not by new raw rows."""
    return REBUILD_TAG in context.run.tags or value_of(context.run.tags, VERSION_TAG) is None


def days_to_check(
    context: dg.AssetCheckExecutionContext, asset: dg.AssetKey, calendar: TradingCalendar, filled: Collection[date]
) -> dict[date, tuple[date, ...]]:
    """List the days to check of each session that this run has materialized; of its own, when it only checks.

    Args:
        context: The run's.
        asset: The asset.
        calendar: The feed's.
        filled: Days that the asset has rows of.
    """
    sessions = sorted(_materializations_of_run(context, asset)) or sessions_of_run(context, calendar)
    return {session: dates_of_session(calendar, session, filled) for session in sessions}


def metadata_of_days(
    context: _Context, asset: dg.AssetKey, sessions: Mapping[date, Iterable[date]], name: str
) -> dict[date, str | None]:
    """Read for each day what its session's latest materialization, this run's if there is one, has under a name."""
    of_run = _records_of_run(context, asset)
    found = {}
    for session, days in sessions.items():
        record = of_run.get(session) or latest_record(context.instance, asset, session)
        for day in days:
            # A closed date that was a partition of its own when it was made has its own record.
            own = None if day == session or says(record, CLOSED_DATES) else latest_record(context.instance, asset, day)
            found[day] = metadata_in(own or record, name)
    return found


def says(record: dg.EventLogRecord | None, name: str) -> bool:
    """Say whether a materialization, if there is one, has a metadata name."""
    made = None if record is None else record.asset_materialization
    return made is not None and name in made.metadata


def metadata_in(record: dg.EventLogRecord | None, name: str) -> str | None:
    """Tell what a materialization, if there is one, has under a metadata name."""
    made = None if record is None else record.asset_materialization
    value = None if made is None else made.metadata.get(name)
    return None if value is None else str(value.value)


def _materializations_of_run(
    context: _Context, asset: dg.AssetKey
) -> dict[date, AssetCheckEvaluationTargetMaterializationData]:
    return {day: _as_target(record) for day, record in _records_of_run(context, asset).items()}


def _records_of_run(context: _Context, asset: dg.AssetKey) -> dict[date, dg.EventLogRecord]:
    records = context.instance.get_records_for_run(
        context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    return {
        day_of(record.partition_key): record
        for record in records
        if record.asset_key == asset and record.partition_key is not None
    }


def _as_target(record: dg.EventLogRecord) -> AssetCheckEvaluationTargetMaterializationData:
    return AssetCheckEvaluationTargetMaterializationData(
        run_id=record.run_id, storage_id=record.storage_id, timestamp=record.timestamp
    )


def materialized(
    context: dg.AssetExecutionContext,
    asset: dg.AssetKey,
    by_day: Mapping[date, Mapping[str, Any]],
    versions: Mapping[date, str],
) -> Iterator[dg.MaterializeResult[None]]:
    """Report what was made of each session: the run's own partitions as its result, the others as events.

    Args:
        context: The run's.
        asset: What was made.
        by_day: Metadata of each session made.
        versions: Each session's data version, where there is one.
    """
    if context.has_partition_key_range:
        yield from _materialized_in_range(context, asset, by_day)
        return
    own = day_of(context.partition_key)
    for day, metadata in by_day.items():
        tags = {DATA_VERSION_TAG: versions[day]} if day in versions else None
        if day != own:
            context.log_event(dg.AssetMaterialization(asset, partition=day.isoformat(), metadata=metadata, tags=tags))
        else:
            version = dg.DataVersion(versions[day]) if day in versions else None
            yield dg.MaterializeResult(asset_key=asset, metadata=metadata, data_version=version)


def _materialized_in_range(
    context: dg.AssetExecutionContext, asset: dg.AssetKey, by_day: Mapping[date, Mapping[str, Any]]
) -> Iterator[dg.MaterializeResult[None]]:
    """Report the sessions of a backfill's run, whose one result stands for all of them: none unless all were made."""
    if {day.isoformat() for day in by_day} >= set(context.partition_keys):
        for day, metadata in by_day.items():
            context.add_asset_metadata(metadata, asset_key=asset, partition_key=day.isoformat())
        yield dg.MaterializeResult(asset_key=asset)
        return
    for day, metadata in by_day.items():
        context.log_event(dg.AssetMaterialization(asset, partition=day.isoformat(), metadata=metadata))


def reported_versions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[date, str]:
    """Read for each day of an asset the data version that its latest materialization reported."""
    latest = instance.event_log_storage.get_latest_tags_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[DATA_VERSION_TAG]
    )
    return {day_of(partition): tags[DATA_VERSION_TAG] for partition, tags in latest.items() if DATA_VERSION_TAG in tags}


def checked(
    context: dg.AssetCheckExecutionContext,
    asset: dg.AssetKey,
    by_day: Mapping[date, Iterable[Finding]],
    blocking: frozenset[str],
) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
    """Report each session's findings: the run's own partition as results, others as evaluations of their session.

    Findings of checks that the run was not asked for are left out. A backfill's run of many partitions has evaluations
    alone: Dagster takes a result of such a run for none of them.
    """
    own = None if context.has_partition_key_range else day_of(context.partition_key)
    made = _materializations_of_run(context, asset)
    wanted = {key.name for key in context.selected_asset_check_keys}
    for day, found in by_day.items():
        findings = [each for each in found if each.check in wanted]
        if day == own:
            yield from (dg.AssetCheckResult(asset_key=asset, **_said(finding)) for finding in findings)
        else:
            judged = made.get(day) or _latest_materialization(context, asset, day)
            yield from (_evaluation(asset, day, each, each.check in blocking, judged) for each in findings)


def evaluations(
    context: _Context, asset: dg.AssetKey, day: date, findings: Iterable[Finding], blocking: frozenset[str]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield findings as events of their session, tied to the materialization that they judge."""
    judged = _latest_materialization(context, asset, day)
    return (_evaluation(asset, day, finding, finding.check in blocking, judged) for finding in findings)


def _evaluation(
    asset: dg.AssetKey,
    day: date,
    finding: Finding,
    blocking: bool,
    judged: AssetCheckEvaluationTargetMaterializationData | None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        **_said(finding),
        blocking=blocking,
        partition=day.isoformat(),
        target_materialization_data=judged,
    )


def _said(finding: Finding) -> dict[str, Any]:
    """Tell what a check's result and its evaluation say alike."""
    return {
        "check_name": finding.check,
        "passed": finding.passed,
        "severity": severity_of(finding),
        "description": finding.description,
        "metadata": finding_metadata(finding),
    }


def severity_of(finding: Finding) -> dg.AssetCheckSeverity:
    """Return Dagster's word for a finding's severity."""
    return dg.AssetCheckSeverity.WARN if finding.severity is Severity.WARN else dg.AssetCheckSeverity.ERROR


def finding_metadata(finding: Finding) -> dict[str, Any]:
    """Return a finding's numbers, examples and fingerprint as check metadata."""
    metadata: dict[str, Any] = dict(finding.numbers)
    if finding.examples:
        metadata["examples"] = _table_of(finding.examples)
    return {**metadata, "severity": finding.severity.value, "fingerprint": finding.fingerprint}


def _table_of(examples: Sequence[Example]) -> dg.TableMetadataValue:
    """Make the table of a finding's examples; a column holds whole numbers if all its cells do, texts if not."""
    names = list(dict.fromkeys(name for example in examples for name in example))
    whole = {name: all(isinstance(example.get(name, 0), int) for example in examples) for name in names}
    columns = [dg.TableColumn(name, "int" if whole[name] else "string") for name in names]
    cells = [
        {name: example.get(name, 0) if whole[name] else str(example.get(name, "")) for name in names}
        for example in examples
    ]
    return dg.MetadataValue.table([dg.TableRecord(each) for each in cells], dg.TableSchema(columns))


def _latest_materialization(
    context: _Context, asset: dg.AssetKey, day: date
) -> AssetCheckEvaluationTargetMaterializationData | None:
    record = latest_record(context.instance, asset, day)
    return None if record is None else _as_target(record)


def latest_record(instance: dg.DagsterInstance, asset: dg.AssetKey, day: date) -> dg.EventLogRecord | None:
    """Return the latest materialization of a day of an asset."""
    of_day = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[day.isoformat()])
    return next(iter(instance.fetch_materializations(of_day, limit=1).records), None)
