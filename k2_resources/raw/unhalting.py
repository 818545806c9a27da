"""Compares a halted topic with the raw table, and ends the halt if the topic holds what was ingested."""

from dataclasses import dataclass

from k2_market.errors import K2Error
from k2_market.ledger.ledger import Ledger
from k2_market.plans.unhalting import Unhalting, to_be_compared, unhalting
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.ledger_against_log import LedgerAgainstLog
from k2_resources.raw.rewrite import RawRewriter
from k2_resources.raw.view import RawView


class NoSuchTopic(K2Error):
    """A topic that is to be compared does not exist."""


@dataclass
class Unhalt:
    """The end of a topic's halt.

    Attributes:
        topic: The topic's name.
        topics: Asks Kafka for its id.
        log: Reads it, and compares.
        found: What was found last; what a commit acted on, once there was one.
    """

    topic: str
    topics: KafkaTopics
    log: LedgerAgainstLog
    found: Unhalting | None = None

    def look(self, view: RawView) -> Unhalting:
        """Tell what the ledger records of the topic, beside what its log has.

        Raises:
            NoSuchTopic: There is no topic of that name.
            OffsetsGone: It was made anew while it was looked at.
            LedgerError: The ledger can't be trusted.
            KafkaUnavailable: No broker answered.
        """
        ledger = view.ledger
        topic_id = self.topics.topic_id(self.topic)
        if topic_id is None:
            raise NoSuchTopic(f"{self.topic}: there is no such topic; created anew, it is read from its start")
        state = self.log.reader.state(topic_id)
        return unhalting(state, ledger, self.log.compare(to_be_compared(state, ledger), view))

    def commit(self, rewriter: RawRewriter) -> Unhalting:
        """Take back what is not so, in one commit of the ledger; nothing is written where all of it is so."""
        rewriter.correct_ledger(self._corrected)
        assert self.found is not None
        return self.found

    def _corrected(self, view: RawView, batch_id: str) -> Ledger | None:
        self.found = self.look(view)
        if not self.found.truncated and not self.found.lost:
            return None
        return view.ledger.taken_back(batch_id, self.found.truncated, self.found.lost)
