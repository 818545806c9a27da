"""Decides which trading days a run covers, and reports the result of each.

A run belongs to one partition, the first of its days; its other days stand in a tag, so that a backlog of small
days costs one run. Their materializations and check results are logged as events of their own partition.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from k2_assets.records.partitions import day_of
from k2_market.errors import K2Error
from k2_market.quality.finding import Finding, Severity

DAYS_TAG = "k2/days"
ATTEMPT_TAG = "k2/attempt"
FEED_TAG = "k2/feed"
VERSION_TAG = "k2/raw_version"
REBUILD_TAG = "k2/rebuild"
"""Marks a run that was asked for so that its days adopt the feed's current rules."""

_Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext


def days_tag(days: Iterable[date]) -> dict[str, str]:
    """The run tag that names a run's days."""
    return {DAYS_TAG: json.dumps([day.isoformat() for day in days])}


class WrongTag(K2Error):
    """A run's tag, which whoever starts a run may write, is not what K2 writes there."""


def tagged_days(tags: Mapping[str, str]) -> tuple[date, ...]:
    """The days that a run's tags name: its ``k2/days``, or else its partition; none, where these name no days.

    For whoever looks at runs of all kinds: one that was started with tags that say nothing must not keep a sensor from
    looking at the others.
    """
    try:
        return _named_days(tags)
    except WrongTag:
        return ()


def days_of_run(context: _Context) -> tuple[date, ...]:
    """The days that an asset of this run makes: those of the run's tag, or its partition alone.

    Raises:
        WrongTag: The tag names no days.
    """
    return _named_days(context.run.tags) or (day_of(context.partition_key),)


def _named_days(tags: Mapping[str, str]) -> tuple[date, ...]:
    partition = tags.get("dagster/partition")
    try:
        if DAYS_TAG in tags:
            return tuple(day_of(key) for key in json.loads(tags[DAYS_TAG]))
        return () if partition is None else (day_of(partition),)
    except (ValueError, TypeError) as error:
        found = f"{DAYS_TAG} {tags[DAYS_TAG]!r}" if DAYS_TAG in tags else f"partition {partition!r}"
        raise WrongTag(f"run tag: found {found}, expected trading days as YYYY-MM-DD, in a JSON list") from error


def adopts(context: _Context) -> bool:
    """Tell whether a run's days adopt the feed's current rules: it was asked for by a person, not by new raw rows."""
    return REBUILD_TAG in context.run.tags or VERSION_TAG not in context.run.tags


def days_materialized(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> tuple[date, ...]:
    """The days of an asset that this run has materialized; its own partition when it only checks."""
    return tuple(sorted(_materializations_of_run(context, asset))) or days_of_run(context)


def said_of_days(context: _Context, asset: dg.AssetKey, days: Iterable[date], name: str) -> dict[date, str | None]:
    """What the latest materialization of each of some days, this run's if there is one, has under a metadata name."""
    of_run = _records_of_run(context, asset)
    records = {day: of_run.get(day) or latest_record(context.instance, asset, day) for day in days}
    return {day: said_in(record, name) for day, record in records.items()}


def said_in(record: dg.EventLogRecord | None, name: str) -> str | None:
    """What a materialization, if there is one, has under a metadata name."""
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
    """Report what was made of each day: the run's own partition as its result, the others as events.

    Args:
        context: The run's.
        asset: What was made.
        by_day: Metadata of each day made.
        versions: Each day's data version, where there is one.
    """
    own = day_of(context.partition_key)
    for day, metadata in by_day.items():
        tags = {DATA_VERSION_TAG: versions[day]} if day in versions else None
        if day != own:
            context.log_event(dg.AssetMaterialization(asset, partition=day.isoformat(), metadata=metadata, tags=tags))
        else:
            version = dg.DataVersion(versions[day]) if day in versions else None
            yield dg.MaterializeResult(asset_key=asset, metadata=metadata, data_version=version)


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
    """Report each day's findings: the run's own partition as results, the others as evaluations of their day."""
    own = day_of(context.partition_key)
    made = _materializations_of_run(context, asset)
    for day, findings in by_day.items():
        if day == own:
            yield from (dg.AssetCheckResult(asset_key=asset, **_said(finding)) for finding in findings)
        else:
            judged = made.get(day) or _latest_materialization(context, asset, day)
            yield from (_evaluation(asset, day, each, each.check in blocking, judged) for each in findings)


def evaluations(
    context: _Context, asset: dg.AssetKey, day: date, findings: Iterable[Finding], blocking: frozenset[str]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Findings as events of their day, tied to the materialization that they judge."""
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
    """What a check's result and its evaluation say alike."""
    return {
        "check_name": finding.check,
        "passed": finding.passed,
        "severity": severity_of(finding),
        "description": finding.description,
        "metadata": finding_metadata(finding),
    }


def severity_of(finding: Finding) -> dg.AssetCheckSeverity:
    """Dagster's word for a finding's severity."""
    return dg.AssetCheckSeverity.WARN if finding.severity is Severity.WARN else dg.AssetCheckSeverity.ERROR


def finding_metadata(finding: Finding) -> dict[str, Any]:
    """A finding's numbers, examples and fingerprint as check metadata."""
    metadata: dict[str, Any] = dict(finding.numbers)
    if finding.examples:
        metadata["examples"] = dg.MetadataValue.json([dict(example) for example in finding.examples])
    return {**metadata, "severity": finding.severity.value, "fingerprint": finding.fingerprint}


def _latest_materialization(
    context: _Context, asset: dg.AssetKey, day: date
) -> AssetCheckEvaluationTargetMaterializationData | None:
    record = latest_record(context.instance, asset, day)
    return None if record is None else _as_target(record)


def latest_record(instance: dg.DagsterInstance, asset: dg.AssetKey, day: date) -> dg.EventLogRecord | None:
    """The latest materialization of a day of an asset."""
    of_day = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[day.isoformat()])
    return next(iter(instance.fetch_materializations(of_day, limit=1).records), None)
