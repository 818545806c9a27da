from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from webhook import Webhook, running_webhook

from k2_assets.records.run_tags import ATTEMPT_TAG, FEED_TAG
from k2_market.quality.finding import Finding, Severity
from k2_resources.alerts.sink import AlertNotSent, AlertSinkResource
from k2_sensors.alerts import build_alert_sensors

DAYS = dg.DailyPartitionsDefinition("2014-03-10", end_offset=1)
RAW = dg.AssetKey(["asx", "raw_trades"])
CHECKS = {
    "sequence_gaps": Severity.WARN,
    "duplicate_messages": Severity.WARN,
    "dead_letters": Severity.WARN,
    "prices_positive": Severity.ERROR,
}


@dataclass
class Market:
    """What the next run's checks will find on each day: check to number; and what goes wrong besides."""

    wrong: dict[tuple[str, str], int] = field(default_factory=dict)
    other_days: tuple[str, ...] = ()
    crash: str = ""

    def finding(self, check: str, day: str) -> Finding:
        count = self.wrong.get((check, day), 0)
        return Finding(
            check=check,
            passed=count == 0,
            severity=CHECKS[check],
            description=f"{count} found.",
            numbers={"found": count},
            examples=tuple({"symbol": "BHP", "n": n} for n in range(count)),
        )


@dataclass
class Platform:
    """A Dagster instance with one checked asset, and the two alert sensors that post to a webhook."""

    instance: dg.DagsterInstance
    webhook: Webhook
    market: Market = field(default_factory=Market)
    cursors: dict[str, str | None] = field(default_factory=dict)

    def run(self, day: str = "2014-03-11", **tags: str) -> str:
        definitions = _asset_and_checks(self.market)
        result = dg.materialize(
            definitions,
            partition_key=day,
            instance=self.instance,
            tags={FEED_TAG: "asx", **tags},
            raise_on_error=False,
        )
        return result.run_id

    def tick(self) -> None:
        for sensor in build_alert_sensors(settling=timedelta(0)):
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursors.get(sensor.name),
                resources={"alert_sink": AlertSinkResource(webhook=self.webhook.url)},
            )
            self.cursors[sensor.name] = sensor.evaluate_tick(context).cursor


def _asset_and_checks(market: Market) -> list[Any]:
    @dg.asset(key=RAW, partitions_def=DAYS)
    def raw_trades(context: dg.AssetExecutionContext) -> None:
        if market.crash:
            raise RuntimeError(market.crash)
        for day in market.other_days:
            context.log_event(dg.AssetMaterialization(RAW, partition=day))

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec(check, asset=RAW, partitions_def=DAYS) for check in CHECKS])
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        for check in CHECKS:
            for day in market.other_days:
                yield dg.AssetCheckEvaluation(
                    asset_key=RAW, check_name=check, partition=day, **_result(market.finding(check, day))
                )
            finding = market.finding(check, context.partition_key)
            yield dg.AssetCheckResult(asset_key=RAW, check_name=check, **_result(finding))

    return [raw_trades, checks]


def _result(finding: Finding) -> dict[str, Any]:
    return {
        "passed": finding.passed,
        "severity": dg.AssetCheckSeverity[finding.severity.name],
        "description": finding.description,
        "metadata": {
            **finding.numbers,
            "examples": dg.MetadataValue.json([dict(each) for each in finding.examples]),
            "fingerprint": finding.fingerprint,
            "severity": finding.severity.value,
        },
    }


@pytest.fixture
def platform() -> Iterator[Platform]:
    """A platform on an instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance, running_webhook() as webhook:
        yield Platform(instance, webhook)


@pytest.fixture
def sqlite_platform() -> Iterator[Platform]:
    """A platform on an instance on disk, as on a laptop: the event log is one database a run, and one index."""
    with dg.instance_for_test() as instance, running_webhook() as webhook:
        yield Platform(instance, webhook)


def test_a_gap_a_duplicate_a_dead_letter_and_a_negative_price_give_one_alert_each(sqlite_platform: Platform) -> None:
    sqlite_platform.tick()
    sqlite_platform.market.wrong = {(check, "2014-03-11"): n for n, check in enumerate(CHECKS, start=1)}
    run_id = sqlite_platform.run()
    sqlite_platform.tick()
    sqlite_platform.tick()

    assert sorted(sqlite_platform.webhook.titles) == [
        "asx/raw_trades 2014-03-11: dead_letters warns",
        "asx/raw_trades 2014-03-11: duplicate_messages warns",
        "asx/raw_trades 2014-03-11: prices_positive failed",
        "asx/raw_trades 2014-03-11: sequence_gaps warns",
    ]
    assert all(f"http://127.0.0.1:3000/runs/{run_id}" in str(post) for post in sqlite_platform.webhook.taken)
    duplicates = next(post for post in sqlite_platform.webhook.taken if "duplicate_messages" in post["text"])
    assert "found: *2*" in str(duplicates)
    assert "n=1, symbol=BHP" in str(duplicates)


def test_a_clean_run_says_nothing(platform: Platform) -> None:
    platform.run()
    platform.tick()

    assert platform.webhook.posts == []


def test_the_same_finding_in_a_repeated_run_gives_no_second_alert(sqlite_platform: Platform) -> None:
    sqlite_platform.market.wrong = {("sequence_gaps", "2014-03-11"): 2}
    for _ in range(3):
        sqlite_platform.run()
        sqlite_platform.tick()
    sqlite_platform.run("2014-03-12")
    sqlite_platform.run()
    sqlite_platform.tick()

    assert len(sqlite_platform.webhook.posts) == 1


def test_several_repeated_runs_between_two_ticks_give_one_alert(platform: Platform) -> None:
    platform.market.wrong = {("sequence_gaps", "2014-03-11"): 2}
    for _ in range(3):
        platform.run()
    platform.tick()

    assert len(platform.webhook.posts) == 1


def test_a_finding_that_changed_or_came_back_gives_another_alert(platform: Platform) -> None:
    for count in (2, 3, 0, 3):
        platform.market.wrong = {("sequence_gaps", "2014-03-11"): count}
        platform.run()
        platform.tick()

    assert len(platform.webhook.posts) == 3


def test_findings_of_days_that_a_run_took_along_alert_too_and_once(platform: Platform) -> None:
    platform.market.other_days = ("2014-03-12", "2014-03-13")
    platform.market.wrong = {("dead_letters", "2014-03-13"): 1}
    platform.run()
    platform.run()
    platform.tick()

    assert platform.webhook.titles == ["asx/raw_trades 2014-03-13: dead_letters warns"]


def test_the_previous_evaluation_is_found_behind_many_of_later_runs(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_sensors.alerts._HISTORY_PAGE", 2)
    platform.market.wrong = {("sequence_gaps", "2014-03-11"): 2}
    for _ in range(6):
        platform.run()
    platform.tick()

    assert len(platform.webhook.posts) == 1


def test_a_webhook_that_fails_fails_the_tick_and_the_next_tick_sends(sqlite_platform: Platform) -> None:
    sqlite_platform.tick()
    sqlite_platform.market.wrong = {("sequence_gaps", "2014-03-11"): 2}
    sqlite_platform.run()
    before = dict(sqlite_platform.cursors)
    sqlite_platform.webhook.answers = [404]
    with pytest.raises(AlertNotSent):
        sqlite_platform.tick()
    assert sqlite_platform.cursors == before
    sqlite_platform.tick()
    sqlite_platform.tick()

    assert sqlite_platform.webhook.titles == ["asx/raw_trades 2014-03-11: sequence_gaps warns"]


def test_alerts_sent_before_a_failure_are_not_sent_again(platform: Platform) -> None:
    platform.tick()
    platform.market.wrong = {(check, "2014-03-11"): 1 for check in CHECKS}
    platform.run()
    platform.webhook.answers = [200, 200, 404, 404]
    platform.tick()
    assert len(platform.webhook.taken) == 2
    with pytest.raises(AlertNotSent):
        platform.tick()
    platform.tick()

    assert sorted(platform.webhook.titles) == sorted(set(platform.webhook.titles))
    assert len(platform.webhook.titles) == 4


def test_a_run_that_crashes_alerts_with_its_error(sqlite_platform: Platform) -> None:
    sqlite_platform.market.crash = "Kafka at 127.0.0.1:19092 is away"
    sqlite_platform.run()
    sqlite_platform.tick()
    sqlite_platform.tick()

    assert len(sqlite_platform.webhook.titles) == 1
    assert sqlite_platform.webhook.titles[0].endswith("2014-03-11: run failed")
    assert "Kafka at 127.0.0.1:19092 is away" in str(sqlite_platform.webhook.taken)


def test_attempts_at_the_same_work_alert_at_first_and_every_fifth_time(platform: Platform) -> None:
    platform.market.crash = "Kafka is away"
    for attempt in range(1, 7):
        platform.run(**{ATTEMPT_TAG: str(attempt)})
    platform.tick()

    assert len(platform.webhook.titles) == 2


def test_a_range_that_is_stuck_is_told_at_its_fifth_attempt_by_its_offsets(platform: Platform) -> None:
    class Ranges(dg.Config):
        topic_id: str
        ranges: dict[str, list[list[int]]]

    @dg.op(name="asx__raw_trades")
    def ingest(config: Ranges) -> None:
        raise RuntimeError("poison")

    @dg.job
    def asx_ingest() -> None:
        ingest()

    config = {"ops": {"asx__raw_trades": {"config": {"topic_id": "T1", "ranges": {"0": [[10, 20]]}}}}}
    for attempt in range(1, 7):
        tags = {FEED_TAG: "asx", ATTEMPT_TAG: str(attempt)}
        asx_ingest.execute_in_process(config, instance=platform.instance, tags=tags, raise_on_error=False)
    platform.tick()

    assert len(platform.webhook.taken) == 2
    assert "Stuck" not in str(platform.webhook.taken[0])
    assert "Stuck after 5 attempts: T1/0[10,20)" in str(platform.webhook.taken[1])


@pytest.mark.parametrize(
    ("blocking", "titles"),
    [
        (True, ["asx/raw_trades 2014-03-11: prices_positive failed"]),
        (
            False,
            ["asx/raw_trades 2014-03-11: prices_positive failed", "__ephemeral_asset_job__ 2014-03-11: run failed"],
        ),
    ],
)
def test_a_check_that_blocks_explains_its_runs_failure_and_one_that_blocks_nothing_does_not(
    platform: Platform, blocking: bool, titles: list[str]
) -> None:
    platform.market.wrong = {("prices_positive", "2014-03-11"): 1}

    @dg.asset(key=RAW, partitions_def=DAYS)
    def gated(context: dg.AssetExecutionContext) -> None:
        finding = platform.market.finding("prices_positive", "2014-03-11")
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=RAW,
                check_name="prices_positive",
                partition="2014-03-11",
                blocking=blocking,
                **_result(finding),
            )
        )
        raise dg.Failure("the disk is full")

    result = dg.materialize([gated], partition_key="2014-03-11", instance=platform.instance, raise_on_error=False)
    platform.tick()

    assert not result.success
    assert platform.webhook.titles == titles


def test_a_sensor_switched_on_late_does_not_tell_old_news(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_sensors.alerts.FIRST_LOOK_BACK", timedelta(0))
    platform.market.wrong = {("sequence_gaps", "2014-03-11"): 2}
    platform.run()
    platform.tick()
    assert platform.webhook.posts == []
    platform.market.wrong = {("sequence_gaps", "2014-03-12"): 2}
    platform.run("2014-03-12")
    platform.tick()

    assert platform.webhook.titles == ["asx/raw_trades 2014-03-12: sequence_gaps warns"]


def test_more_runs_than_a_tick_takes_are_told_over_several_ticks(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_sensors.alerts.RUNS_PER_TICK", 2)
    for day in range(11, 16):
        platform.market.wrong = {("sequence_gaps", f"2014-03-{day}"): 1}
        platform.market.crash = "crash" if day == 13 else ""
        platform.run(f"2014-03-{day}")
    for _ in range(4):
        platform.tick()

    checks = [title for title in platform.webhook.titles if "sequence_gaps" in title]
    assert [title.split()[1] for title in checks] == [f"2014-03-{day}:" for day in (11, 12, 14, 15)]
    assert len(platform.webhook.titles) == len(checks) + 1


def test_an_event_that_appears_after_later_ones_is_told_all_the_same(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL shows one whose transaction took longer than those that began after it."""
    platform.tick()
    platform.market.wrong = {("sequence_gaps", "2014-03-11"): 1}
    slow = platform.run("2014-03-11")
    platform.market.wrong = {("sequence_gaps", "2014-03-12"): 1}
    platform.run("2014-03-12")
    fetch = platform.instance.fetch_run_status_changes

    def without_the_slow_one(*arguments: Any, **more: Any) -> Any:
        page = fetch(*arguments, **more)
        shown = [each for each in page.records if each.run_id != slow]
        return dg.EventRecordsResult(records=shown, cursor=page.cursor, has_more=page.has_more)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(platform.instance, "fetch_run_status_changes", without_the_slow_one)
        platform.tick()
    assert platform.webhook.titles == ["asx/raw_trades 2014-03-12: sequence_gaps warns"]
    platform.tick()
    platform.tick()

    assert platform.webhook.titles == [f"asx/raw_trades 2014-03-{day}: sequence_gaps warns" for day in (12, 11)]


def test_an_event_too_young_to_be_in_order_waits_for_the_next_tick(platform: Platform) -> None:
    platform.market.wrong = {("sequence_gaps", "2014-03-11"): 2}
    platform.run()
    sensor, _ = build_alert_sensors(settling=timedelta(hours=1))
    context = dg.build_sensor_context(
        instance=platform.instance, resources={"alert_sink": AlertSinkResource(webhook=platform.webhook.url)}
    )
    sensor.evaluate_tick(context)

    assert platform.webhook.posts == []


def test_both_sensors_run_by_default() -> None:
    assert {each.name: each.default_status for each in build_alert_sensors()} == {
        "check_alert_sensor": dg.DefaultSensorStatus.RUNNING,
        "run_failure_alert_sensor": dg.DefaultSensorStatus.RUNNING,
    }
