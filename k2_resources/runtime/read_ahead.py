"""Reads ahead: runs an iterator in a thread of its own, a little before its items are needed."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

from k2_market.errors import K2Error

_T = TypeVar("_T")

_POLL_SECONDS = 0.1


class ReaderGone(K2Error):
    """The thread that made the items ended without handing over why."""


class _Failed(Generic[_T]):
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


@contextlib.contextmanager
def read_ahead(items: Generator[_T, None, None], most: int = 1) -> Iterator[Iterator[_T]]:
    """Yield the items of an iterator, made in a thread of its own while earlier ones are worked on.

    An item that was taken is held by its taker alone: items are batches, and each is a tenth of what a run may hold.

    Args:
        items: A generator; it is closed in its thread when the block ends, however far it has come.
        most: How many items may wait to be taken.

    Raises:
        BaseException: Whatever the iterator raises, when its place comes.
        ReaderGone: Its thread could not even say that.
    """
    waiting: queue.Queue[object] = queue.Queue(most)
    given_up = threading.Event()

    def hand_over(item: object) -> bool:
        while not given_up.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=_POLL_SECONDS)
                return True
        return False

    def run() -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    if not hand_over(item):
                        return
                    del item  # else it would be held until the next one is made
        except BaseException as error:
            hand_over(_Failed(error))
        else:
            hand_over(_END)

    def next_waiting() -> object:
        while True:
            with contextlib.suppress(queue.Empty):
                return waiting.get(timeout=_POLL_SECONDS)
            if not reader.is_alive() and waiting.empty():
                raise ReaderGone("the thread that reads ahead ended without a word: was there no memory left?")

    def taken() -> Iterator[_T]:
        while (item := next_waiting()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            handed: list[object] = [item]
            del item
            yield handed.pop()  # type: ignore[misc]

    reader = threading.Thread(target=run, name="read-ahead", daemon=True)
    reader.start()
    try:
        yield taken()
    finally:
        given_up.set()
        reader.join()
