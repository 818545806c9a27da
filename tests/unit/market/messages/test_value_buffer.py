"""Values in one buffer are what the same values in a list are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.messages.value_buffer import GUARD, JoinedPart, JoinedValues

some = st.lists(st.none() | st.binary(max_size=9) | st.binary(min_size=5, max_size=5))
framed = st.lists(st.sampled_from((b"\0\0\0\0\1", b"\0\0\0\0\2", b"{\xff\xff\xff\xff")).flatmap(
    lambda header: st.binary(max_size=9).map(lambda body: header + body)
))  # fmt: skip


@given(some)
def test_values_are_found_in_order_and_by_place(values: list[bytes | None]) -> None:
    joined = JoinedValues.of(values)
    assert len(joined) == len(values)
    assert list(joined) == values
    assert [joined[place] for place in range(-len(values), len(values))] == values * 2
    with pytest.raises(IndexError):
        joined[len(values)]


@given(some, st.integers(-20, 20), st.integers(-20, 20), st.integers(-20, 20))
def test_a_stretch_of_a_stretch_is_that_of_a_list(values: list[bytes | None], a: int, b: int, c: int) -> None:
    stretch, expected = JoinedValues.of(values)[a:b], values[a:b]
    assert list(stretch) == expected
    assert list(stretch[c:]) == expected[c:]
    assert stretch.headers == JoinedValues.of(expected).headers
    assert stretch.body == b"".join((value or b"") + GUARD for value in expected)


@given(some)
def test_every_value_has_the_guard_behind_it_and_no_guard_counts_as_size(values: list[bytes | None]) -> None:
    part = JoinedPart.of(values)
    assert part.body == JoinedValues.of(values).body == b"".join((value or b"") + GUARD for value in values)
    assert part.size_bytes == sum(len(value or b"") for value in values)


@given(st.lists(some))
def test_parts_one_after_the_other_are_all_of_their_values(parts: list[list[bytes | None]]) -> None:
    joined = JoinedValues.concat([JoinedPart.of(each) for each in parts])
    assert list(joined) == [value for each in parts for value in each]


@given(some | framed)
def test_headers_are_the_first_five_bytes_that_there_are(values: list[bytes | None]) -> None:
    assert JoinedValues.of(values).headers == {None if value is None else value[:5] for value in values}


def test_values_are_not_taken_by_steps() -> None:
    with pytest.raises(ValueError, match="a step of 2, expected 1"):
        JoinedValues.of([b"a", b"b"])[::2]
