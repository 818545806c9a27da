"""Decides which findings and failed runs become alerts, each once.

A finding is news when the check's previous evaluation of the same day passed or said something else. A failed run
is news unless a check's finding tells the story, and again only now and then while it keeps failing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from k2_market.ledger.offset_ranges import RangeSet, named
from k2_market.plans.ingest_plan import ALERT_ATTEMPTS
from k2_market.quality.finding import Example, Severity

MAX_ALERTS_PER_RUN = 20
"""Alerts that one run may raise singly; a backlog of years must not flood whoever listens. The rest is summed up."""


class AlertKind(StrEnum):
    """Describes what an alert is about."""

    CHECK = "check"
    RUN_FAILURE = "run_failure"
    INGEST = "ingest"
    """Something stands against ingestion, found by a look and not by a run."""
    RECOVERY = "recovery"
    """The end of something that was alerted before."""


@dataclass(frozen=True)
class EvaluationKey:
    """Describes which check of which asset, on which trading day (``YYYY-MM-DD``, None where it has no partitions)."""

    asset: str
    check: str
    day: str | None


@dataclass(frozen=True)
class PastEvaluation:
    """Describes how a check had come out before."""

    passed: bool
    fingerprint: str


@dataclass(frozen=True)
class Evaluation:
    """Represents a check's result in one run.

    Attributes:
        key: Check, asset and day.
        passed: Whether its rule holds.
        severity: What it means when it does not.
        description: One sentence for a person.
        fingerprint: Equal for equal findings.
        numbers: What was counted, by name.
        examples: Rows that the rule objects to.
    """

    key: EvaluationKey
    passed: bool
    severity: Severity
    description: str
    fingerprint: str
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class RunFailure:
    """A run that failed.

    Attributes:
        job: Its job.
        feed: Its feed, if it belongs to one.
        days: The trading days that it was about.
        attempt: The number of the attempt at the same work, from 1.
        error: What went wrong.
        explained_by_check: Whether a blocking check failed in it: that ended the run, and the check has an alert of its
            own. A check that blocks nothing explains no failure.
        ranges: The offset ranges that it was to ingest, if it was.
    """

    job: str
    feed: str | None
    days: tuple[str, ...]
    attempt: int
    error: str
    explained_by_check: bool
    ranges: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True)
class Alert:
    """Represents a message to a person.

    Attributes:
        kind: What it is about.
        severity: How bad it is for the bars.
        feed: The feed, if it concerns one.
        day: The trading day, if it concerns one.
        subject: The asset (``asx/ohlcv_1d``) or job that it speaks of.
        check: The check that found it, if one did.
        message: One sentence.
        numbers: What was counted, by name.
        examples: Rows, or None.
        run_id: The run in which it came up, if it was one.
        headline: What is the matter, in a few words, where neither a check nor a run tells.
    """

    kind: AlertKind
    severity: Severity
    feed: str | None
    day: str | None
    subject: str
    check: str | None
    message: str
    run_id: str | None
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    headline: str = ""

    @property
    def title(self) -> str:
        """Tell what failed where, in a few words."""
        if self.headline:
            return f"{self.subject}: {self.headline}"
        what = f"{self.check} failed" if self.check else "run failed"
        if self.severity is Severity.WARN:
            what = f"{self.check} warns"
        return f"{self.subject} {self.day}: {what}" if self.day else f"{self.subject}: {what}"


def check_alerts(
    run_id: str, evaluations: Iterable[Evaluation], previous: Mapping[EvaluationKey, PastEvaluation]
) -> tuple[Alert, ...]:
    """Return an alert for each finding of a run that is news; beyond ``MAX_ALERTS_PER_RUN`` one that sums up the rest.

    Args:
        run_id: The run.
        evaluations: How its checks came out.
        previous: How the same checks had come out on the same days before the run.
    """
    alerts = [_of(run_id, each) for each in evaluations if is_news(each, previous.get(each.key))]
    alerts.sort(key=lambda alert: (alert.severity is not Severity.ERROR, alert.day or "", alert.subject, alert.check))
    if len(alerts) <= MAX_ALERTS_PER_RUN:
        return tuple(alerts)
    return (*alerts[: MAX_ALERTS_PER_RUN - 1], _summary(run_id, alerts[MAX_ALERTS_PER_RUN - 1 :]))


def is_news(evaluation: Evaluation, previous: PastEvaluation | None) -> bool:
    """Say whether an evaluation found something, and not the same as the previous one."""
    if evaluation.passed:
        return False
    return previous is None or previous.passed or previous.fingerprint != evaluation.fingerprint


def run_failure_alert(run_id: str, failure: RunFailure) -> Alert | None:
    """Return the alert for a failed run: for the first attempt and every fifth, unless a check's alert tells."""
    if failure.explained_by_check or not (failure.attempt == 1 or failure.attempt % ALERT_ATTEMPTS == 0):
        return None
    numbers: dict[str, int | float | str] = {"attempt": failure.attempt}
    if len(failure.days) > 1:
        numbers |= {"days": len(failure.days), "last_day": failure.days[-1]}
    message = failure.error
    if failure.ranges and failure.attempt >= ALERT_ATTEMPTS:
        message = f"Stuck after {failure.attempt} attempts: {named(failure.ranges)}. The last one's error: {message}"
    return Alert(
        kind=AlertKind.RUN_FAILURE,
        severity=Severity.ERROR,
        feed=failure.feed,
        day=failure.days[0] if failure.days else None,
        subject=failure.job,
        check=None,
        message=message,
        run_id=run_id,
        numbers=numbers,
    )


def _of(run_id: str, evaluation: Evaluation) -> Alert:
    return Alert(
        kind=AlertKind.CHECK,
        severity=evaluation.severity,
        feed=_feed_of(evaluation.key.asset),
        day=evaluation.key.day,
        subject=evaluation.key.asset,
        check=evaluation.key.check,
        message=evaluation.description,
        run_id=run_id,
        numbers=evaluation.numbers,
        examples=evaluation.examples,
    )


def _summary(run_id: str, rest: Sequence[Alert]) -> Alert:
    days = sorted(alert.day for alert in rest if alert.day is not None)
    by_check: dict[str, int] = {}
    for alert in rest:
        by_check[str(alert.check)] = by_check.get(str(alert.check), 0) + 1
    span = f", of days from {days[0]} to {days[-1]}" if days else ""
    return Alert(
        kind=AlertKind.CHECK,
        severity=rest[0].severity,
        feed=rest[0].feed,
        day=None,
        subject=rest[0].feed or rest[0].subject,
        check="further checks",
        message=f"{len(rest)} more findings in this run{span}; the run lists them.",
        run_id=run_id,
        numbers=by_check,
    )


def _feed_of(asset: str) -> str | None:
    feed, slash, _ = asset.partition("/")
    return feed if slash else None
