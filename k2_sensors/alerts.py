"""Defines the alert sensors: they follow ended runs and send what is new, at least once.

They are ordinary sensors, not run status sensors: Dagster moves a run status sensor on even when it fails, and an
alert that could not be sent would be lost. Here a failed tick keeps its cursor, and the next one tries again.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES

from k2_assets.records.ingest_runs import attempt_of, carried_in_all
from k2_assets.records.run_scope import tagged_days
from k2_assets.records.run_tags import FEED_TAG
from k2_market.alerting.alerts import (
    Alert,
    Evaluation,
    EvaluationKey,
    PastEvaluation,
    RunFailure,
    check_alerts,
    run_failure_alert,
)
from k2_market.quality.finding import Severity
from k2_resources.alerts.sink import AlertNotSent, AlertSink, AlertSinkResource
from k2_resources.logs.structured_logging import correlation

INTERVAL_SECONDS = 5
FIRST_LOOK_BACK = timedelta(hours=1)
"""Reach back of a sensor that never ticked: over the start of the daemon, not over years of old findings."""
RUNS_PER_TICK = 100
SENDING_SECONDS_PER_TICK = 30.0
"""Time after which a tick stops sending and the next goes on; Dagster ends ticks that take a minute."""
SETTLING = timedelta(seconds=2)
"""Age from which an event is looked at, so that most come in order."""
LATEST = timedelta(minutes=2)
"""Age up to which an event may still appear before later ones: PostgreSQL shows it when its transaction has committed,
and numbers it when that begins."""

_HISTORY_PAGE = 20
_MAX_ERROR = 1_000

_ENDED = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
_FAILED = (dg.DagsterEventType.RUN_FAILURE,)


def build_alert_sensors(
    settling: timedelta = SETTLING, default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> list[dg.SensorDefinition]:
    """Return the two alert sensors; they need the resource ``alert_sink``, an ``AlertSinkResource``."""

    @dg.sensor(
        name="check_alert_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status,
        description="Sends an alert for each new finding of a check, once a run has ended.",
    )
    def check_alert_sensor(context: dg.SensorEvaluationContext, alert_sink: AlertSinkResource) -> dg.SensorResult:
        return _follow(context, alert_sink.sink(), _ENDED, settling, alerts_of_checks)

    @dg.sensor(
        name="run_failure_alert_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status,
        description="Sends an alert for a run that failed, unless a check's alert tells why.",
    )
    def run_failure_alert_sensor(context: dg.SensorEvaluationContext, alert_sink: AlertSinkResource) -> dg.SensorResult:
        return _follow(context, alert_sink.sink(), _FAILED, settling, alerts_of_failure)

    return [check_alert_sensor, run_failure_alert_sensor]


def alerts_of_checks(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[Alert, ...]:
    """Tell what a run's check evaluations give to tell."""
    evaluations = [_evaluation(each) for each in _evaluations(instance, run.run_id)]
    previous = {
        each.key: past
        for each in evaluations
        if not each.passed and (past := _previous(instance, each.key, run.run_id)) is not None
    }
    return check_alerts(run.run_id, evaluations, previous)


def alerts_of_failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[Alert, ...]:
    """Tell what a failed run gives to tell."""
    evaluations = _evaluations(instance, run.run_id)
    feed = run.tags.get(FEED_TAG)
    alert = run_failure_alert(
        run.run_id,
        RunFailure(
            job=run.job_name,
            feed=feed,
            days=tuple(day.isoformat() for day in tagged_days(run.tags)),
            attempt=attempt_of(run),
            error=_error_of(instance, run.run_id),
            explained_by_check=any(not each.passed and each.blocking for each in evaluations),
            ranges=carried_in_all(run),
        ),
    )
    return () if alert is None else (alert,)


@dataclass(frozen=True)
class _Cursor:
    """Says how far a sensor has come.

    Attributes:
        after: All events up to this number are dealt with, and no further one of them can appear.
        handled: Numbers and times of later events that are dealt with.
        run_id: The run that is being told of.
        sent: How many of its alerts were sent.
    """

    after: int
    handled: tuple[tuple[int, float], ...] = ()
    run_id: str | None = None
    sent: int = 0

    @classmethod
    def read(cls, text: str | None) -> "_Cursor | None":
        if not text:
            return None
        content = json.loads(text)
        return cls(**{**content, "handled": tuple((int(n), float(t)) for n, t in content.get("handled", ()))})

    def text(self) -> str:
        return json.dumps(asdict(self))

    def with_sent(self, run_id: str, sent: int) -> "_Cursor":
        return replace(self, run_id=run_id, sent=sent)

    def with_handled(self, event: dg.EventLogRecord, now: datetime) -> "_Cursor":
        """Return the cursor after an event; numbers too old for another to appear before them are summed up."""
        handled = (*self.handled, (event.storage_id, event.timestamp))
        past = (now - LATEST).timestamp()
        after = max((number for number, time in handled if time <= past), default=self.after)
        return _Cursor(max(after, self.after), tuple(each for each in handled if each[0] > after))


def _follow(
    context: dg.SensorEvaluationContext,
    sink: AlertSink,
    event_types: Sequence[dg.DagsterEventType],
    settling: timedelta,
    alerts_of: Callable[[dg.DagsterInstance, dg.DagsterRun], Sequence[Alert]],
) -> dg.SensorResult:
    """Send the alerts of runs that ended since the cursor, in order.

    Raises:
        AlertNotSent: Not even the first alert due was taken. After some were, the tick ends well, with a cursor
            that leaves them out; the next tick meets the failure.
    """
    cursor = _Cursor.read(context.cursor) or _first_cursor(context.instance, event_types)
    sent = 0
    until = time.monotonic() + SENDING_SECONDS_PER_TICK
    now = datetime.now(UTC)
    for event in _ended_runs(context.instance, cursor, event_types, now - settling):
        run = context.instance.get_run_by_id(event.run_id)
        alerts = () if run is None else alerts_of(context.instance, run)
        done = cursor.sent if cursor.run_id == event.run_id else 0
        for position, alert in enumerate(alerts[done:], start=done + 1):
            if sent and time.monotonic() > until:
                return _progress(cursor, sent)
            try:
                with correlation(event.run_id):
                    sink.send(alert)
            except AlertNotSent as error:
                if not sent:
                    raise
                context.log.warning(str(error))
                return _progress(cursor, sent)
            sent += 1
            cursor = cursor.with_sent(event.run_id, position)
        cursor = cursor.with_handled(event, now)
    return _progress(cursor, sent)


def _first_cursor(instance: dg.DagsterInstance, event_types: Sequence[dg.DagsterEventType]) -> _Cursor:
    """Tell where a sensor starts that never ticked: before the first run that ended in the time it looks back over."""
    since = (datetime.now(UTC) - FIRST_LOOK_BACK).timestamp()
    firsts, lasts = [], [0]
    for event_type in event_types:
        recent = _status_changes(instance, event_type, limit=1, after_timestamp=since)
        firsts += [each.storage_id - 1 for each in recent]
        newest = instance.fetch_run_status_changes(_status_filter(event_type), limit=1).records
        lasts += [each.storage_id for each in newest]
    return _Cursor(after=min(firsts, default=max(lasts)))


def _progress(cursor: _Cursor, sent: int) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=f"Alerts sent: {sent}." if sent else "Nothing to tell.", cursor=cursor.text())


def _ended_runs(
    instance: dg.DagsterInstance, cursor: _Cursor, event_types: Sequence[dg.DagsterEventType], settled: datetime
) -> list[dg.EventLogRecord]:
    """Read the next events that say that a run ended, oldest first."""
    handled = {number for number, _ in cursor.handled}
    most = RUNS_PER_TICK + len(handled)
    pages = [_status_changes(instance, each, most, after_storage_id=cursor.after) for each in event_types]
    # Where one kind of event fills its page, the others are not known to be complete beyond that page's end.
    complete_up_to = min((page[-1].storage_id for page in pages if len(page) == most), default=sys.maxsize)
    in_order = sorted((each for page in pages for each in page), key=lambda event: event.storage_id)
    ready = takewhile(
        lambda event: event.storage_id <= complete_up_to and event.timestamp <= settled.timestamp(), in_order
    )
    return [each for each in ready if each.storage_id not in handled]


def _status_changes(
    instance: dg.DagsterInstance, event_type: dg.DagsterEventType, limit: int, **bounds: Any
) -> Sequence[dg.EventLogRecord]:
    return instance.fetch_run_status_changes(_status_filter(event_type, **bounds), limit=limit, ascending=True).records


def _status_filter(event_type: dg.DagsterEventType, **bounds: Any) -> dg.RunStatusChangeRecordsFilter:
    # The type is a literal of the enum's members, which a variable can't be.
    return dg.RunStatusChangeRecordsFilter(event_type=event_type, **bounds)  # type: ignore[arg-type]


def _evaluations(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    return [event.asset_check_evaluation_data for event in events if event is not None]


def _evaluation(recorded: dg.AssetCheckEvaluation) -> Evaluation:
    values = {name: each.value for name, each in recorded.metadata.items()}
    return Evaluation(
        key=EvaluationKey(recorded.asset_key.to_user_string(), recorded.check_name, recorded.partition),
        passed=recorded.passed,
        severity=Severity.WARN if recorded.severity is dg.AssetCheckSeverity.WARN else Severity.ERROR,
        description=recorded.description or "",
        fingerprint=_fingerprint(recorded),
        numbers={
            name: value
            for name, value in values.items()
            if isinstance(value, int | float | str) and name not in ("fingerprint", "severity")
        },
        examples=tuple(_examples(values.get("examples"))),
    )


def _fingerprint(recorded: dg.AssetCheckEvaluation) -> str:
    """Return the finding's digest; its description where the check gives none."""
    given = recorded.metadata.get("fingerprint")
    return str(given.value) if given is not None else recorded.description or ""


def _examples(value: Any) -> Iterator[dict[str, str | int]]:
    """Read a finding's examples: a table, or a list of rows as earlier versions of K2 recorded them."""
    rows = [record.data for record in value.records] if isinstance(value, dg.TableMetadataValue) else value
    for each in rows if isinstance(rows, list) else []:
        if isinstance(each, dict):
            yield {str(name): cell if isinstance(cell, int) else str(cell) for name, cell in each.items()}


def _previous(instance: dg.DagsterInstance, key: EvaluationKey, run_id: str) -> PastEvaluation | None:
    """Tell how the check had come out on the same day before a run; None if it never had."""
    own_seen = False
    cursor: int | None = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey.from_user_string(key.asset), key.check),
            limit=_HISTORY_PAGE,
            cursor=cursor,
            status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
            partition_filter=PartitionKeyFilter(key=key.day),
        )
        for record in page:
            if record.run_id == run_id:
                own_seen = True
            elif own_seen and record.event is not None and record.event.dagster_event is not None:
                past = record.event.dagster_event.asset_check_evaluation_data
                return PastEvaluation(past.passed, _fingerprint(past))
        if len(page) < _HISTORY_PAGE:
            return None
        cursor = page[-1].id


def _error_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Tell what went wrong: the failed steps' errors, or else the run's."""
    steps = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    errors = []
    for record in steps:
        event = record.event_log_entry.dagster_event
        if event is not None and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            cause = error.cause or error
            errors.append(f"{event.step_key}: {cause.message.strip()}")
    if not errors:
        failures = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
        errors = [record.event_log_entry.message for record in failures]
    return "; ".join(errors)[:_MAX_ERROR] or "The run failed without saying why."
