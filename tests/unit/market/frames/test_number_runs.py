"""Runs of numbers are held to sets of numbers."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from k2_market.frames.number_runs import RUN, runs_of, union_of

LOWEST, HIGHEST = -(2**63), 2**63 - 1
KEY = ["symbol"]
NUMBERS = st.lists(
    st.tuples(
        st.sampled_from(["ANZ", "BHP", None]),
        st.integers(0, 30) | st.sampled_from([LOWEST, LOWEST + 1, HIGHEST - 1, HIGHEST]),
    ),
    max_size=40,
)


def frame(numbers):
    return pl.DataFrame(numbers, {"symbol": pl.String, "number": pl.Int64}, orient="row")


def unrolled(runs):
    return [(key, number) for key, first, last in runs.iter_rows() for number in range(first, last + 1)]


@given(NUMBERS)
def test_a_batch_in_runs_has_each_of_its_numbers_once(numbers):
    assert sorted(unrolled(runs_of(frame(numbers), KEY, "number")), key=str) == sorted(set(numbers), key=str)


@given(st.lists(NUMBERS, max_size=4))
def test_batches_laid_over_each_other_have_what_any_has_in_runs_that_do_not_touch(batches):
    runs = union_of(
        [pl.DataFrame(schema={"symbol": pl.String, **RUN}), *(runs_of(frame(each), KEY, "number") for each in batches)],
        KEY,
    )

    assert sorted(unrolled(runs), key=str) == sorted({number for each in batches for number in each}, key=str)
    ends = {(key, last + 1) for key, _, last in runs.iter_rows()}
    assert not any((key, first) in ends for key, first, _ in runs.iter_rows())
