"""A day keeps the rules it was built under until it adopts others; a fingerprint tells rules apart."""

from datetime import date

import pytest
from repository import SHIPPED_FEEDS

from k2_market.errors import LedgerError
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.plans.build_rules import (
    MEANING,
    BuildRules,
    rules_from_json,
    rules_of_build,
    rules_of_days,
    rules_to_json,
)
from k2_market.plans.day_builds import DayBuild

ASX = load_feeds([SHIPPED_FEEDS])["asx"]
MONDAY, TUESDAY = date(2014, 3, 10), date(2014, 3, 11)


def changed(**keys: object) -> Feed:
    return Feed.model_validate({**ASX.model_dump(mode="json"), **keys})


@pytest.mark.parametrize(
    "keys",
    [
        {"timezone": "Australia/Perth"},
        {"calendar": "24/7"},
        {"session": {"minutes_after": 12, "day_starts": "17:00"}},
        {"conditions": {"no_price": ["1"]}},
        {"conditions": {"no_price": sorted(ASX.conditions.no_price), "no_volume": []}},
    ],
    ids=str,
)
def test_a_change_of_what_bars_depend_on_changes_the_fingerprint(keys: dict[str, object]) -> None:
    assert BuildRules.of(changed(**keys)).fingerprint != BuildRules.of(ASX).fingerprint


@pytest.mark.parametrize(
    "keys",
    [
        {"start_date": "2013-01-01"},
        {"topics": {"trades": "another"}},
        {"session": {"minutes_before": 20, "minutes_after": 30}},
        {"conditions": {name: sorted(codes, reverse=True) for name, codes in ASX.conditions.model_dump().items()}},
    ],
    ids=["start_date", "topic", "tolerance", "order of codes"],
)
def test_other_keys_and_the_order_of_codes_do_not(keys: dict[str, object]) -> None:
    assert BuildRules.of(changed(**keys)).fingerprint == BuildRules.of(ASX).fingerprint


@pytest.mark.parametrize(("before", "now"), [(None, "17:00"), ("17:00", None), ("17:00", "16:45")])
def test_the_hour_at_which_days_start_is_a_rule_and_the_tolerance_is_as_it_is_now(
    before: str | None, now: str | None
) -> None:
    rules = BuildRules.from_json(BuildRules.of(changed(session={"minutes_after": 5, "day_starts": before})).to_json())
    applied = rules.applied_to(changed(session={"minutes_after": 9, "day_starts": now}))
    assert applied == changed(session={"minutes_after": 9, "day_starts": before})


def test_rules_taken_from_a_feed_give_that_feed_again() -> None:
    before = BuildRules.from_json(BuildRules.of(ASX).to_json())
    now = changed(timezone="UTC", conditions={"no_price": ["R"]}, calendar="24/7", start_date="2013-01-01")

    assert before.applied_to(now) == changed(start_date="2013-01-01")


def test_a_published_day_keeps_its_rules_and_a_new_one_gets_the_current() -> None:
    before, now = BuildRules.of(ASX), BuildRules.of(changed(timezone="UTC"))
    kept = {before.fingerprint: before}
    published = DayBuild(1, before.fingerprint)

    assert rules_of_build(now, published, kept, adopt=False) == before
    assert rules_of_build(now, published, kept, adopt=True) == now
    assert rules_of_build(now, None, kept, adopt=False) == now
    assert rules_of_build(now, DayBuild(1, "of which nothing is known"), kept, adopt=False) == now


def test_rules_of_another_k2_can_not_be_kept() -> None:
    now, earlier = BuildRules.of(ASX), BuildRules(MEANING - 1, BuildRules.of(ASX).keys)
    published = DayBuild(1, earlier.fingerprint)

    assert earlier.fingerprint != now.fingerprint
    assert rules_of_build(now, published, {earlier.fingerprint: earlier}, adopt=False) == now


def test_days_of_other_rules_are_a_warning_that_names_the_command() -> None:
    now = BuildRules.of(ASX)
    finding = rules_of_days({MONDAY: DayBuild(1, "other"), TUESDAY: DayBuild(2, now.fingerprint)}, now, "asx")

    assert not finding.passed
    assert finding.numbers["outdated"] == 1
    assert finding.examples == ({"trade_date": "2014-03-10", "rules": "other"},)
    assert "k2 rebuild --feed asx" in finding.description
    assert rules_of_days({TUESDAY: DayBuild(2, now.fingerprint)}, now, "asx").passed


def test_rules_come_back_as_they_were_written() -> None:
    rules = {each.fingerprint: each for each in (BuildRules.of(ASX), BuildRules.of(changed(timezone="UTC")))}

    assert rules_from_json(rules_to_json(rules)) == rules


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": "b"}', '{"a": 1}'])
def test_a_property_without_rules_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match=r"k2\.rules"):
        rules_from_json(text)
