"""Finds the messages of a batch that make a function fail, by halving, so that only they are left out."""

from collections.abc import Callable

import pyarrow as pa

from k2_market.messages.batch import MessageBatch

Make = Callable[[MessageBatch], pa.Table]
"""Makes a row of each message of a batch, or raises."""

_NOT_A_MESSAGES_FAULT = (MemoryError, OSError)
"""Errors of a process that is short of memory, of files or of a disk, whatever it does."""


def rows_around_failures(
    batch: MessageBatch, make: Make, leave_out: Callable[[MessageBatch, str], pa.Table]
) -> pa.Table:
    """Make a row of each message of a batch: of messages that make ``make`` fail, by ``leave_out``.

    Costs nothing as long as nothing fails. Where something does, the batch is halved until the message is found: some
    seventeen times for one message among 150,000.

    Args:
        batch: Some messages.
        make: Makes the rows. It must not depend on which other messages are in a batch.
        leave_out: Given a batch of a single message and why it is left out, makes its row.

    Raises:
        MemoryError: A single message takes more memory than there is. That may be this process's fault and not the
            message's.
        OSError: Likewise, of files.
    """
    try:
        return make(batch)
    except BaseException as failure:
        if not (isinstance(failure, Exception) or is_panic(failure)):
            raise
        if len(batch) < 2:
            if len(batch) == 0 or isinstance(failure, _NOT_A_MESSAGES_FAULT):
                raise
            return leave_out(batch, f"could not be decoded: {type(failure).__name__}: {failure}")
    # Outside of the handler, so that the failure and what it holds are let go before the halves take memory.
    middle = len(batch) // 2
    halves = (batch.part(0, middle), batch.part(middle, len(batch)))
    return pa.concat_tables([rows_around_failures(half, make, leave_out) for half in halves])


def is_panic(failure: BaseException) -> bool:
    """Tell whether a failure is a Rust library's panic, which is not an ``Exception``."""
    return type(failure).__name__ == "PanicException"
