"""Which tags a table gets and loses after a day's close."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_market.plans.day_tags import KEPT_DAYS, TagPlan, plan_tags, tag_of, tagged_day

FRIDAY = date(2026, 11, 20)
days = st.dates(FRIDAY, FRIDAY + timedelta(days=400))
others = st.sampled_from(["main", "audit", "day-", "day-2026", "day-2026-11-20-copy", "2026-11-20"])


@given(days)
def test_a_tags_name_tells_its_day(day: date) -> None:
    assert tagged_day(tag_of(day)) == day


@given(others)
def test_tags_of_other_names_are_of_no_day(name: str) -> None:
    assert tagged_day(name) is None


@given(st.sets(days, max_size=60), st.sets(others), st.one_of(st.none(), days))
def test_the_latest_days_keep_their_tags_and_no_others(tagged: set[date], foreign: set[str], day: date | None) -> None:
    there = {*map(tag_of, tagged), *foreign}
    plan = plan_tags(there, day)
    after = (there | ({plan.added} if plan.added else set())) - set(plan.removed)
    wanted = sorted(tagged | ({day} if day else set()), reverse=True)[:KEPT_DAYS]
    assert after == {*map(tag_of, wanted), *foreign}
    assert plan.added not in there
    assert set(plan.removed) <= there


@given(st.sets(days, max_size=60), days)
def test_done_again_nothing_is_to_be_done(tagged: set[date], day: date) -> None:
    plan = plan_tags(map(tag_of, tagged), day)
    after = ({*map(tag_of, tagged)} | ({plan.added} if plan.added else set())) - set(plan.removed)
    assert plan_tags(after, day) == TagPlan(None, ())


def test_a_tag_that_is_there_stays_where_it_is() -> None:
    assert plan_tags(["day-2026-11-20"], FRIDAY) == TagPlan(None, ())


def test_a_day_older_than_all_that_are_kept_gets_none() -> None:
    kept = [tag_of(FRIDAY + timedelta(days=number)) for number in range(1, KEPT_DAYS + 1)]
    assert plan_tags(kept, FRIDAY) == TagPlan(None, ())
