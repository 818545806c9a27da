"""Disables Rust backtraces: printing one after an out-of-memory panic can deadlock the process."""

import os


def end_without_backtrace() -> None:
    """Have them say what went wrong and no more, whatever ``RUST_BACKTRACE`` asks for.

    For a backtrace the runtime looks up its own symbols, which takes memory. Where there is none left it fails within
    that, waits for a lock that it holds itself, and the process stands still for ever instead of ending.
    """
    os.environ["RUST_BACKTRACE"] = "0"
