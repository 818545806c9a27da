"""A batch of Kafka messages as plain lists, one entry a message: what the reader hands to the decoder.

Lists of bytes and numbers and not of message objects: Python's garbage collector walks every object of a batch,
but neither bytes nor integers.
"""

from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

from k2_market.message_framing import HEADER_BYTES

_header = itemgetter(slice(HEADER_BYTES))


@dataclass(frozen=True)
class MessageBatch:
    """Messages of one topic in the order in which they were read; all lists are of equal length.

    Attributes:
        topic_id: Kafka's own UUID of the topic.
        partitions: Partition of each message.
        offsets: Offset within its partition.
        timestamps_ms: Record timestamp, milliseconds since 1970 UTC; -1 where the record has none.
        keys: Key bytes, or None.
        values: Value bytes, or None (a tombstone).
        correlation_ids: The correlation id from the message's headers, or None.

    Raises:
        ValueError: The lists differ in length.
    """

    topic_id: str
    partitions: list[int]
    offsets: list[int]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    correlation_ids: list[str | None]

    def __post_init__(self) -> None:
        """Refuse lists of different lengths: rows would take their neighbours' offsets."""
        lengths = {
            "partitions": len(self.partitions),
            "offsets": len(self.offsets),
            "timestamps_ms": len(self.timestamps_ms),
            "keys": len(self.keys),
            "values": len(self.values),
            "correlation_ids": len(self.correlation_ids),
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"a batch's lists must be of equal length, found {lengths}")

    @cached_property
    def headers(self) -> frozenset[bytes | None]:
        """The distinct first bytes of the values, as many as a frame's header has; None for a null value."""
        try:
            return frozenset(map(_header, self.values))  # type: ignore[arg-type]  # seldom is one of them None
        except TypeError:
            return frozenset(None if value is None else _header(value) for value in self.values)

    def __len__(self) -> int:
        """Number of messages."""
        return len(self.values)
