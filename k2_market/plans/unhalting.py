"""Decides whether a halted topic may be read on.

A topic is halted where its log was seen to end before offsets of the ledger. That may be wrong: a follower that took
over may show an end that is some messages old, and earlier versions recorded whatever a run was told. It is taken back
only where the log has, at every one of these offsets, what was ingested from there.
"""

from dataclasses import dataclass
from enum import StrEnum

from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_market.messages.log_comparison import ComparedOffsets


class InLog(StrEnum):
    """Describes what a log has at offsets that are recorded as cut off, or as lost."""

    SAME = "the messages that were ingested"
    OTHER = "other messages"
    UNKNOWN = "nothing that can be compared"
    BEYOND = "nothing: it ends before them"
    REMOVED = "nothing any more: retention removed them"
    RETAINED = "messages that can be read"
    NOT_YET = "nothing yet: it ends before them"


@dataclass(frozen=True)
class Recorded:
    """Offsets of which the ledger records the same, and the log has the same to say.

    Attributes:
        truncated: Whether they are recorded as cut off; as lost otherwise.
        in_log: What the log has there.
        offsets: The offsets.
    """

    truncated: bool
    in_log: InLog
    offsets: RangeSet


@dataclass(frozen=True)
class Unhalting:
    """Describes what is to be taken back of a topic's truncations and losses.

    Attributes:
        topic: The topic's log.
        recorded: All that the ledger records of the topic, and what the log has there.
    """

    topic: TopicState
    recorded: tuple[Recorded, ...]

    @property
    def is_halted(self) -> bool:
        """Say whether the topic is halted now."""
        return any(each.truncated for each in self.recorded)

    @property
    def may_go_on(self) -> bool:
        """Say whether the log has what was ingested at every offset that is recorded as cut off."""
        return all(each.in_log is InLog.SAME for each in self.recorded if each.truncated)

    @property
    def truncated(self) -> RangeSet:
        """Offsets that are to count as cut off no more."""
        return self._of(InLog.SAME) if self.may_go_on else RangeSet()

    @property
    def lost(self) -> RangeSet:
        """Offsets that are to count as lost no more: they will be read like any others."""
        return self._of(InLog.RETAINED) | self._of(InLog.NOT_YET)

    @property
    def against(self) -> tuple[Recorded, ...]:
        """Tell what stands against reading the topic on."""
        return tuple(each for each in self.recorded if each.truncated and each.in_log is not InLog.SAME)

    def _of(self, in_log: InLog) -> RangeSet:
        return RangeSet.of(found for each in self.recorded if each.in_log is in_log for found in each.offsets)


def to_be_compared(topic: TopicState, ledger: Ledger) -> RangeSet:
    """Return offsets that are recorded as cut off and can be read."""
    return ledger.truncated & topic.readable


def unhalting(topic: TopicState, ledger: Ledger, compared: ComparedOffsets) -> Unhalting:
    """Tell what is recorded of a topic, beside what its log has.

    Args:
        topic: The topic's log, looked at after the ledger.
        ledger: The raw table's ledger.
        compared: The offsets ``to_be_compared``, compared.
    """
    cut = ledger.truncated.of_topic(topic.topic_id) | topic.unreached(ledger.covered)
    beyond = cut - topic.readable - topic.removed
    # Lost are offsets that were removed unread; nothing else is.
    wrongly_lost = ledger.lost.of_topic(topic.topic_id) - topic.removed
    found = (
        Recorded(True, InLog.SAME, cut & compared.same),
        Recorded(True, InLog.OTHER, cut & compared.other),
        Recorded(True, InLog.UNKNOWN, cut & compared.unknown),
        Recorded(True, InLog.BEYOND, beyond),
        Recorded(True, InLog.REMOVED, cut & topic.removed),
        Recorded(False, InLog.RETAINED, wrongly_lost & topic.readable),
        Recorded(False, InLog.NOT_YET, wrongly_lost - topic.readable),
    )
    return Unhalting(topic, tuple(each for each in found if each.offsets))
