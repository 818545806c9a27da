"""Describes a topic at one moment: its id, and the offsets that each Kafka partition holds."""

from dataclasses import dataclass

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet


@dataclass(frozen=True)
class PartitionState:
    """The log of one partition.

    Attributes:
        partition: Its number.
        low: First offset that the broker retains.
        stable_end: End of what ``read_committed`` readers may read: the last stable offset.
        high: End of the log; beyond ``stable_end`` while a transaction is open.
    """

    partition: int
    low: int
    stable_end: int
    high: int


@dataclass(frozen=True)
class TopicState:
    """A topic's partitions at one moment; ``topic_id`` is Kafka's own UUID, new whenever a topic is recreated."""

    name: str
    topic_id: str
    partitions: tuple[PartitionState, ...]

    @property
    def readable(self) -> RangeSet:
        """All offsets that can be read now."""
        return RangeSet.of(
            OffsetRange(self.topic_id, each.partition, each.low, each.stable_end)
            for each in self.partitions
            if each.stable_end > each.low
        )

    def unreached(self, covered: RangeSet) -> RangeSet:
        """Return the given offsets that lie at or past the end of this topic's log, as after a loss of its data."""
        logs = (OffsetRange(self.topic_id, each.partition, 0, each.high) for each in self.partitions if each.high)
        return covered.of_topic(self.topic_id) - RangeSet.of(logs)

    @property
    def removed(self) -> RangeSet:
        """All offsets that retention has removed."""
        return RangeSet.of(
            OffsetRange(self.topic_id, each.partition, 0, each.low) for each in self.partitions if each.low
        )
