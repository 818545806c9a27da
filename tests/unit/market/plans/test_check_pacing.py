"""When the raw rows of an open day are checked: soon, but never at a cost that grows with the square of the day."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_market.plans.build_plan import GRACE
from k2_market.plans.check_pacing import FEW_ROWS, checked_with_its_run, rest_of

rows = st.integers(0, 10**9)


@given(rows, rows)
def test_a_run_whose_day_has_few_rows_after_it_always_checks_it(before: int, new: int) -> None:
    assert checked_with_its_run(before % FEW_ROWS, new % (FEW_ROWS - before % FEW_ROWS + 1))


@given(st.integers(0, 10**8), st.lists(st.integers(1, 10**7), max_size=50))
def test_all_checks_of_a_day_by_its_runs_read_some_six_times_its_rows_at_most(before: int, runs: list[int]) -> None:
    read, now = 0, before
    for new in runs:
        if now + new > FEW_ROWS and checked_with_its_run(now, new):
            read += now + new
        now += new
    assert read <= 6 * sum(runs)


def test_a_large_open_day_leaves_its_checks_until_a_fifth_of_it_is_new() -> None:
    assert not checked_with_its_run(50_000_000, 400_000)
    assert checked_with_its_run(50_000_000, 10_000_000)


@given(rows, rows)
def test_the_rest_between_two_checks_grows_with_the_day_and_ends_before_the_day_is_built(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert rest_of(few) <= rest_of(many) <= GRACE / 2


def test_few_rows_rest_for_seconds() -> None:
    assert rest_of(10_000) < timedelta(seconds=1)
    assert rest_of(50_000_000) == timedelta(minutes=8, seconds=20)
