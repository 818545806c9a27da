"""Tunes this process: the garbage collector, Arrow's allocator, and how Rust libraries fail."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect no garbage while the block runs.

    Every collection walks all objects that could be part of a cycle. Messages are many and are never part of one:
    half of the time of reading them went into walking them. Reference counting goes on freeing what is let go.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def loaded_for_good() -> Iterator[None]:
    """Collect no garbage while modules and definitions are loaded, and none walks them afterwards, not even at exit.

    A quarter of the time of loading went into walking what stays for good.
    """
    with collector_paused():
        yield
        gc.freeze()


@contextmanager
def arrow_from_system() -> Iterator[None]:
    """Have Arrow use the system's allocator while the block runs.

    Its own one keeps a heap for each thread, which batches that go from thread to thread fill and never use again:
    ingesting with the system's took a tenth less processor time and memory.
    """
    import pyarrow as pa  # here, since commands that answer at once import this module too

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def end_without_backtrace() -> None:
    """Have them say what went wrong and no more, whatever ``RUST_BACKTRACE`` asks for.

    For a backtrace the runtime looks up its own symbols, which takes memory. Where there is none left it fails within
    that, waits for a lock that it holds itself, and the process stands still for ever instead of ending.
    """
    os.environ["RUST_BACKTRACE"] = "0"
