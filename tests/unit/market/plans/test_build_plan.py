"""Which closed days are built, and when: facts in, plan out."""

from datetime import UTC, date, datetime, timedelta

import pytest
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.plans.build_plan import MAX_DAYS_PER_RUN, BuildFacts, FailedBuild, plan_builds
from k2_market.plans.day_builds import DayBuild

ASX = TradingCalendar.of(load_feeds([SHIPPED_FEEDS])["asx"])
MONDAY, TUESDAY, WEDNESDAY = date(2014, 3, 10), date(2014, 3, 11), date(2014, 3, 12)
LONG_AFTER = datetime(2014, 4, 1, tzinfo=UTC)


def facts(**changes: object) -> BuildFacts:
    usual: dict[str, object] = {
        "versions": {MONDAY: 5, TUESDAY: 7},
        "builds": {},
        "blocked": frozenset(),
        "building": frozenset(),
        "ingesting_from": None,
        "failed": (),
        "now": LONG_AFTER,
    }
    return BuildFacts(**{**usual, **changes})  # type: ignore[arg-type]


def built(versions: dict[date, int]) -> dict[date, DayBuild]:
    return {day: DayBuild(version, "rules") for day, version in versions.items()}


def days(of: BuildFacts) -> tuple[date, ...]:
    plan = plan_builds(of, ASX)
    return () if plan is None else plan.days


def test_every_closed_day_that_is_behind_its_raw_rows_is_built() -> None:
    assert days(facts()) == (MONDAY, TUESDAY)


def test_a_day_built_from_its_latest_raw_rows_is_left_alone() -> None:
    assert days(facts(builds=built({MONDAY: 5, TUESDAY: 7}))) == ()


def test_late_trades_rebuild_their_day_and_only_their_day() -> None:
    assert days(facts(versions={MONDAY: 5, TUESDAY: 9}, builds=built({MONDAY: 5, TUESDAY: 7}))) == (TUESDAY,)


@pytest.mark.parametrize(("minutes_after_close", "expected"), [(29, ()), (30, (MONDAY,))])
def test_a_day_is_not_built_before_its_close_and_grace(minutes_after_close: int, expected: tuple[date, ...]) -> None:
    close = ASX.session(MONDAY).close
    now = close + timedelta(minutes=minutes_after_close)
    assert days(facts(versions={MONDAY: 5}, now=now)) == expected


def test_a_blocked_day_and_a_day_under_way_are_not_built() -> None:
    assert days(facts(blocked=frozenset({MONDAY}), building=frozenset({TUESDAY}))) == ()


def test_days_that_a_run_may_still_be_filling_wait() -> None:
    assert days(facts(ingesting_from=TUESDAY)) == (MONDAY,)


def test_a_failed_day_rests_and_then_goes_alone_as_the_next_attempt() -> None:
    failed = FailedBuild(frozenset({MONDAY}), attempt=1, ended=LONG_AFTER - timedelta(seconds=10), raw_version=5)
    assert days(facts(failed=(failed,))) == (TUESDAY,)
    rested = FailedBuild(frozenset({MONDAY, TUESDAY}), 1, LONG_AFTER - timedelta(minutes=5), raw_version=7)
    plan = plan_builds(facts(failed=(rested,)), ASX)
    assert plan is not None
    assert (plan.days, plan.attempt) == ((MONDAY,), 2)


def test_a_clock_that_was_set_back_since_a_failure_does_not_keep_its_day_resting() -> None:
    failed = FailedBuild(frozenset({MONDAY}), attempt=1, ended=LONG_AFTER + timedelta(hours=1), raw_version=5)
    plan = plan_builds(facts(failed=(failed,)), ASX)
    assert plan is not None
    assert (plan.days, plan.attempt) == ((MONDAY,), 2)


def test_new_raw_rows_end_the_rest_of_a_failed_day() -> None:
    failed = FailedBuild(frozenset({MONDAY}), attempt=4, ended=LONG_AFTER, raw_version=5)
    plan = plan_builds(facts(versions={MONDAY: 6}, failed=(failed,)), ASX)
    assert plan is not None
    assert (plan.days, plan.attempt) == ((MONDAY,), 1)


def test_a_long_history_is_built_some_days_a_run() -> None:
    history = {MONDAY - timedelta(days=n): 1 for n in range(MAX_DAYS_PER_RUN + 40)}
    made = days(facts(versions=history))
    assert len(made) == MAX_DAYS_PER_RUN
    assert made[0] == min(history)
