"""Represents a batch of Kafka messages as columns, one entry a message.

Columns of bytes and numbers and not of message objects: Python's garbage collector walks every object of a batch,
but neither bytes nor integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from k2_market.messages.value_buffer import JoinedValues

Numbers = Sequence[int] | npt.NDArray[np.int32] | npt.NDArray[np.int64]
"""A column of whole numbers."""


@dataclass(frozen=True)
class MessageBatch:
    """Messages of one topic in the order in which they were read; all columns are of equal length.

    Attributes:
        topic_id: Kafka's own UUID of the topic.
        partitions: Partition of each message.
        offsets: Offset within its partition.
        timestamps_ms: Record timestamp, milliseconds since 1970 UTC; -1 where the record has none.
        keys: Key bytes, or None.
        values: Value bytes, or None (a tombstone).
        correlation_ids: The correlation id from the message's headers, or None.

    Raises:
        ValueError: The columns differ in length.
    """

    topic_id: str
    partitions: Numbers
    offsets: Numbers
    timestamps_ms: Numbers
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    correlation_ids: Sequence[str | None]

    def __post_init__(self) -> None:
        """Refuse columns of different lengths: rows would take their neighbours' offsets."""
        lengths = {
            "partitions": len(self.partitions),
            "offsets": len(self.offsets),
            "timestamps_ms": len(self.timestamps_ms),
            "keys": len(self.keys),
            "values": len(self.values),
            "correlation_ids": len(self.correlation_ids),
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"a batch's columns must be of equal length, found {lengths}")

    @cached_property
    def joined(self) -> JoinedValues:
        """The values in one buffer."""
        return JoinedValues.of(self.values)

    def part(self, start: int, stop: int) -> "MessageBatch":
        """Cut out the messages from one place to before another; they share this batch's memory."""
        return MessageBatch(
            self.topic_id,
            self.partitions[start:stop],
            self.offsets[start:stop],
            self.timestamps_ms[start:stop],
            self.keys[start:stop],
            self.joined[start:stop],
            self.correlation_ids[start:stop],
        )

    def __len__(self) -> int:
        """Return number of messages."""
        return len(self.values)
