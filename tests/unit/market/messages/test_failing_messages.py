"""The messages that make something fail are found, and only they are left out."""

import pyarrow as pa
import pytest
from avro_messages import batch
from hypothesis import given
from hypothesis import strategies as st

from k2_market.messages.batch import MessageBatch
from k2_market.messages.failing_messages import is_panic, rows_around_failures


class PanicException(BaseException):
    """As a Rust library's panic looks to Python."""


def left_out(one: MessageBatch, reason: str) -> pa.Table:
    assert len(one) == 1
    return pa.table({"offset": [int(one.offsets[0])], "reason": [reason]})


def made(failing: dict[bytes, BaseException], calls: list[int]) -> object:
    def make(some: MessageBatch) -> pa.Table:
        calls.append(len(some))
        for value in some.values:
            if value in failing:
                raise failing[value or b""]
        offsets = [int(each) for each in some.offsets]
        return pa.table({"offset": offsets, "reason": pa.nulls(len(offsets), pa.string())})

    return make


def rows(messages: MessageBatch, failing: dict[bytes, BaseException], calls: list[int] | None = None) -> pa.Table:
    make = made(failing, [] if calls is None else calls)
    return rows_around_failures(messages, make, left_out)  # type: ignore[arg-type]


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.sampled_from([ValueError, PanicException, RecursionError]))
def test_exactly_the_failing_ones_are_left_out_and_all_keep_their_order(
    failing: list[bool], kind: type[BaseException]
) -> None:
    values = [b"bad" if each else b"good" for each in failing]
    found = rows(batch(*values), {b"bad": kind("nobody foresaw this")})
    assert found["offset"].to_pylist() == list(range(100, 100 + len(values)))
    reason = f"could not be decoded: {kind.__name__}: nobody foresaw this"
    assert found["reason"].to_pylist() == [reason if each else None for each in failing]


def test_a_batch_without_a_failure_is_made_once_and_one_among_many_costs_a_few_halves() -> None:
    calls: list[int] = []
    rows(batch(*[b"good"] * 4096), {}, calls)
    assert calls == [4096]
    calls.clear()
    rows(batch(*[b"good"] * 2000, b"bad", *[b"good"] * 2095), {b"bad": ValueError()}, calls)
    assert len(calls) == 1 + 2 * 12


@pytest.mark.parametrize("kind", [MemoryError, OSError, pa.ArrowMemoryError])
def test_a_process_without_memory_or_files_blames_no_message(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        rows(batch(b"good", b"bad"), {b"bad": kind()})


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_process_that_is_to_end_ends(kind: type[BaseException]) -> None:
    calls: list[int] = []
    with pytest.raises(kind):
        rows(batch(b"good", b"bad"), {b"bad": kind()}, calls)
    assert calls == [2]
    assert not is_panic(kind())


def test_halves_may_be_made_where_the_whole_takes_too_much_memory() -> None:
    def make(some: MessageBatch) -> pa.Table:
        if len(some) > 3:
            raise MemoryError
        return pa.table({"offset": [int(each) for each in some.offsets]})

    found = rows_around_failures(batch(*[b"x"] * 20), make, left_out)
    assert found["offset"].to_pylist() == list(range(100, 120))


def test_a_failure_that_has_to_do_with_no_message_is_raised() -> None:
    def make(_: MessageBatch) -> pa.Table:
        raise ValueError("whatever it is given")

    with pytest.raises(ValueError, match="whatever"):
        rows_around_failures(batch(), make, left_out)
