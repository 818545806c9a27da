from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from k2_market.alerting.alerts import (
    MAX_ALERTS_PER_RUN,
    AlertKind,
    Evaluation,
    EvaluationKey,
    PastEvaluation,
    RunFailure,
    check_alerts,
    is_news,
    run_failure_alert,
)
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.quality.finding import Severity

KEY = EvaluationKey("asx/raw_trades", "sequence_gaps", "2014-03-11")
GAP = Evaluation(
    key=KEY,
    passed=False,
    severity=Severity.WARN,
    description="2 messages are missing in 1 gap.",
    fingerprint="a1",
    numbers={"missing_messages": 2},
    examples=({"symbol": "BHP", "after": 1, "before": 4},),
)
FAILURE = RunFailure("asx_ingest", "asx", ("2014-03-11",), attempt=1, error="Kafka is away", explained_by_check=False)


def test_a_finding_becomes_an_alert_with_feed_day_check_numbers_and_run() -> None:
    (alert,) = check_alerts("run-1", [GAP], {})

    assert alert.kind is AlertKind.CHECK
    assert (alert.feed, alert.day, alert.subject, alert.check) == (
        "asx",
        "2014-03-11",
        "asx/raw_trades",
        "sequence_gaps",
    )
    assert alert.severity is Severity.WARN
    assert alert.message == "2 messages are missing in 1 gap."
    assert alert.numbers == {"missing_messages": 2}
    assert alert.examples == ({"symbol": "BHP", "after": 1, "before": 4},)
    assert alert.run_id == "run-1"
    assert alert.title == "asx/raw_trades 2014-03-11: sequence_gaps warns"


def test_an_error_is_said_to_have_failed() -> None:
    (alert,) = check_alerts("run-1", [replace(GAP, severity=Severity.ERROR)], {})

    assert alert.title == "asx/raw_trades 2014-03-11: sequence_gaps failed"


def test_what_passes_is_silent() -> None:
    assert check_alerts("run-1", [replace(GAP, passed=True)], {}) == ()


def test_the_same_finding_again_is_silent() -> None:
    assert check_alerts("run-2", [GAP], {KEY: PastEvaluation(passed=False, fingerprint="a1")}) == ()


def test_a_finding_that_changed_alerts_again() -> None:
    assert len(check_alerts("run-2", [GAP], {KEY: PastEvaluation(passed=False, fingerprint="b2")})) == 1


def test_a_finding_that_comes_back_after_a_pass_alerts_again() -> None:
    assert len(check_alerts("run-3", [GAP], {KEY: PastEvaluation(passed=True, fingerprint="a1")})) == 1


def test_the_same_finding_on_another_day_or_of_another_check_is_news() -> None:
    previous = {KEY: PastEvaluation(passed=False, fingerprint="a1")}
    others = [replace(GAP, key=replace(KEY, day="2014-03-12")), replace(GAP, key=replace(KEY, check="dead_letters"))]

    assert len(check_alerts("run-2", others, previous)) == 2


@given(st.booleans(), st.none() | st.builds(PastEvaluation, st.booleans(), st.sampled_from(["a1", "b2"])))
def test_news_is_what_does_not_pass_and_was_not_said_last_time(passed: bool, previous: PastEvaluation | None) -> None:
    said_last_time = previous == PastEvaluation(passed=False, fingerprint="a1")

    assert is_news(replace(GAP, passed=passed), previous) == (not passed and not said_last_time)


@given(st.lists(st.sampled_from([Severity.ERROR, Severity.WARN]), max_size=60))
def test_a_run_never_raises_more_alerts_than_the_bound_and_forgets_none(severities: list[Severity]) -> None:
    findings = [
        replace(GAP, key=replace(KEY, day=f"2014-{1 + n // 28:02}-{1 + n % 28:02}"), severity=severity)
        for n, severity in enumerate(severities)
    ]

    alerts = check_alerts("run-1", findings, {})

    assert len(alerts) == min(len(findings), MAX_ALERTS_PER_RUN)
    if len(findings) > MAX_ALERTS_PER_RUN:
        *single, summary = alerts
        assert sum(int(count) for count in summary.numbers.values()) == len(findings) - len(single)
        assert str(len(findings) - len(single)) in summary.message
        assert summary.feed == "asx"
    ranks = [alert.severity is Severity.WARN for alert in alerts]
    assert ranks == sorted(ranks)


def test_a_failed_run_alerts_once_per_work_and_then_every_fifth_attempt() -> None:
    told = [n for n in range(1, 12) if run_failure_alert("run-1", replace(FAILURE, attempt=n)) is not None]

    assert told == [1, 5, 10]


def test_ranges_that_failed_five_times_are_stuck_and_named() -> None:
    ranges = RangeSet.of([OffsetRange("t", 0, 10, 20)])
    first, fifth = (run_failure_alert("run-1", replace(FAILURE, attempt=n, ranges=ranges)) for n in (1, 5))

    assert first is not None
    assert first.message == "Kafka is away"
    assert fifth is not None
    assert fifth.message == "Stuck after 5 attempts: t/0[10,20). The last one's error: Kafka is away"


def test_a_failed_run_whose_check_tells_is_silent() -> None:
    assert run_failure_alert("run-1", replace(FAILURE, explained_by_check=True)) is None


def test_a_failed_runs_alert_names_job_day_attempt_and_error() -> None:
    alert = run_failure_alert("run-1", replace(FAILURE, attempt=5, days=("2014-03-11", "2014-03-12")))

    assert alert is not None
    assert alert.kind is AlertKind.RUN_FAILURE
    assert alert.severity is Severity.ERROR
    assert alert.title == "asx_ingest 2014-03-11: run failed"
    assert alert.message == "Kafka is away"
    assert alert.numbers == {"attempt": 5, "days": 2, "last_day": "2014-03-12"}


def test_a_run_without_feed_or_day_can_alert_too() -> None:
    alert = run_failure_alert("run-1", RunFailure("maintenance", None, (), 1, "disk full", explained_by_check=False))

    assert alert is not None
    assert alert.title == "maintenance: run failed"
