"""Reading ahead changes when items are made, and nothing else."""

import gc
import threading
import weakref
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_resources.runtime import read_ahead as module
from k2_resources.runtime.read_ahead import ReaderGone, read_ahead


class Broken(Exception):
    """What the reader fails with here."""


def counted(count: int, *, breaks: bool, ended: threading.Event) -> Generator[int, None, None]:
    try:
        yield from range(count)
        if breaks:
            raise Broken
    finally:
        ended.set()


@given(count=st.integers(0, 20), breaks=st.booleans(), taken=st.integers(0, 25), most=st.integers(1, 3))
def test_items_come_in_order_an_error_in_its_place_and_the_generator_ends_whoever_stops(
    count: int, breaks: bool, taken: int, most: int
) -> None:
    ended = threading.Event()
    found = []
    failed = False
    with read_ahead(counted(count, breaks=breaks, ended=ended), most) as items:
        try:
            while len(found) < taken:
                found.append(next(items))
        except Broken:
            failed = True
        except StopIteration:
            pass
    assert found == list(range(min(count, taken)))
    assert failed == (breaks and taken > count)
    assert ended.is_set()


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    made = [threading.Event() for _ in range(2)]

    def items() -> Generator[int, None, None]:
        for number, each in enumerate(made):
            each.set()
            yield number

    with read_ahead(items()) as ahead:
        assert next(ahead) == 0
        assert made[1].wait(30)


def test_an_error_of_the_worker_is_not_hidden_by_the_readers() -> None:
    def work() -> None:
        with read_ahead(counted(2, breaks=True, ended=threading.Event())) as items:
            next(items)
            raise KeyError

    with pytest.raises(KeyError):
        work()


def test_an_item_that_was_taken_is_held_by_its_taker_alone() -> None:
    class Item:
        """Something that can be seen to go."""

    made: list[weakref.ref[Item]] = []

    def items() -> Generator[Item, None, None]:
        for _ in range(3):
            item = [Item()]
            made.append(weakref.ref(item[0]))
            yield item.pop()

    with read_ahead(items()) as ahead:
        for number in range(3):
            item = next(ahead)
            assert made[number]() is item
            del item
            gc.collect()
            assert made[number]() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_dies_without_a_word_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory(module._Failed):
        def __init__(self, error: BaseException) -> None:
            raise MemoryError

    monkeypatch.setattr(module, "_Failed", NoMemory)
    with read_ahead(counted(1, breaks=True, ended=threading.Event())) as items:
        assert next(items) == 0
        with pytest.raises(ReaderGone, match="no memory left"):
            next(items)
