"""Which days are behind their raw rows follows from what the tables themselves record."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.errors import LedgerError
from k2_market.plans.day_builds import (
    AMENDMENT_REACH,
    DayBuild,
    builds_from_json,
    builds_to_json,
    days_naming,
    outdated_days,
    stale_days,
    supersedes,
    versions_from_json,
    versions_to_json,
)

MONDAY, TUESDAY, WEDNESDAY = (date(2014, 3, 10) + timedelta(days=n) for n in range(3))

days = st.integers(0, 60).map(lambda n: MONDAY + timedelta(days=n))
versions = st.dictionaries(days, st.integers(1, 2**40), max_size=20)
builds = st.dictionaries(
    days,
    st.builds(
        DayBuild,
        version=st.integers(0, 2**40),
        rules=st.sampled_from(["a1", "b2"]),
        others=versions,
        sought=st.none() | st.integers(0, 2**40),
    ),
    max_size=10,
)


def built(version: int, **more: object) -> DayBuild:
    return DayBuild(version, "rules", **more)  # type: ignore[arg-type]


def test_a_day_never_built_is_stale() -> None:
    assert stale_days({TUESDAY: 5, MONDAY: 4}, {}) == [MONDAY, TUESDAY]


def test_a_day_built_from_its_latest_rows_is_not() -> None:
    assert stale_days({MONDAY: 4, TUESDAY: 5}, {MONDAY: built(4), TUESDAY: built(5)}) == []


def test_new_rows_make_their_own_day_stale_and_no_other() -> None:
    assert stale_days({MONDAY: 6, TUESDAY: 5}, {MONDAY: built(4), TUESDAY: built(5)}) == [MONDAY]


def test_a_day_is_stale_once_a_later_day_is_found_to_name_its_trades() -> None:
    found = {MONDAY: built(4), WEDNESDAY: built(5, others={MONDAY: 4})}

    assert stale_days({MONDAY: 4, WEDNESDAY: 5}, found) == [MONDAY]
    taken_in = found | {MONDAY: built(4, others={WEDNESDAY: 5})}
    assert stale_days({MONDAY: 4, WEDNESDAY: 5}, taken_in) == []


@pytest.mark.parametrize("newer", [MONDAY, WEDNESDAY])
def test_new_rows_of_either_day_make_both_stale_that_depend_on_each_other(newer: date) -> None:
    both = {MONDAY: built(4, others={WEDNESDAY: 5}), WEDNESDAY: built(5, others={MONDAY: 4})}

    assert stale_days({MONDAY: 4, WEDNESDAY: 5} | {newer: 9}, both) == [MONDAY, WEDNESDAY]


def test_a_day_that_sought_a_trade_in_vain_is_stale_when_an_earlier_day_gets_rows() -> None:
    sought = {MONDAY: built(4), TUESDAY: built(5, sought=5), WEDNESDAY: built(6)}

    assert stale_days({MONDAY: 4, TUESDAY: 5, WEDNESDAY: 6}, sought) == []
    assert stale_days({MONDAY: 7, TUESDAY: 5, WEDNESDAY: 6}, sought | {MONDAY: built(7)}) == [TUESDAY]


def test_rows_of_later_days_and_of_days_out_of_reach_do_not_start_the_search_again() -> None:
    long_ago = TUESDAY - AMENDMENT_REACH - timedelta(days=1)
    sought = {long_ago: built(9), TUESDAY: built(5, sought=5), WEDNESDAY: built(8)}

    assert stale_days({long_ago: 9, TUESDAY: 5, WEDNESDAY: 8}, sought) == []


@given(versions, builds)
def test_building_every_stale_day_from_what_there_is_leaves_none(now: dict[date, int], before: dict[date, DayBuild]):
    """Each build takes in the days that name it, as the asset does; then two rounds settle whatever was found."""
    known = dict(before)
    for _ in range(2):
        naming = days_naming(known)
        for day in stale_days(now, known):
            earlier = {other for other in (known[day].others if day in known else ()) if other < day and other in now}
            others = {other: now.get(other, 0) for other in earlier | naming.get(day, frozenset())}
            known[day] = DayBuild(now[day], "rules", others, max(now.values()))

    assert stale_days(now, known) == []


def test_a_build_of_older_rows_does_not_replace_one_of_newer_rows() -> None:
    assert supersedes(built(5), None)
    assert supersedes(built(5), built(5))
    assert supersedes(built(6), built(5))
    assert not supersedes(built(4), built(5))


def test_days_built_under_other_rules_are_told_apart() -> None:
    found = {TUESDAY: DayBuild(5, "a1"), MONDAY: DayBuild(4, "a1"), WEDNESDAY: DayBuild(6, "b2")}

    assert outdated_days(found, "b2") == [MONDAY, TUESDAY]


@given(versions)
def test_versions_come_back_as_they_were_written(written: dict[date, int]) -> None:
    assert versions_from_json(versions_to_json(written)) == written


@given(builds)
def test_builds_come_back_as_they_were_written(written: dict[date, DayBuild]) -> None:
    assert builds_from_json(builds_to_json(written)) == written


@pytest.mark.parametrize("text", ["", "[]", "{", '{"2014": 1}', '{"2014-03-10": "x"}', "null"])
def test_a_property_that_is_no_such_record_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match=r"k2\.day-versions"):
        versions_from_json(text)
    with pytest.raises(LedgerError, match=r"k2\.day-builds"):
        builds_from_json(text)
