"""Represents the facts that ingest alarms are found from, and those remembered of earlier rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from k2_market.alerting.silence import Expectation
from k2_market.feeds.feed import RefusedFile
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_market.plans.failed_runs import FailedRun

WATCHED_ANEW_AFTER = timedelta(minutes=5)
"""Pause of the alarm sensor (a laptop that slept) after which silence is counted anew."""

REMEMBERED_TOPICS = 4
"""Number of successive topics of one name that are remembered."""


@dataclass(frozen=True)
class NoAnswer:
    """Says that a service gave no answer, and why."""

    reason: str


@dataclass(frozen=True)
class Untrusted:
    """A ledger can't be trusted; where its table was rolled back, ``ranges`` are those whose rows went."""

    reason: str
    rolled_back: bool = False
    ranges: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True)
class FeedFacts:
    """Holds the facts about a feed; its ledger was read before its topic, so that it can't be ahead of it.

    Attributes:
        feed: Its name.
        family: What its sensors' names begin with; what is remembered of earlier looks is kept by it.
        table: The raw table's asset.
        topic_name: The topic that feeds it.
        topic: The topic's log, None where there is none.
        ledger: The raw table's ledger.
        in_flight: What each ingest run that is queued or under way carries; asked only where messages wait.
        failed: Recent failed ingest runs; likewise.
        newest: The timestamp of the topic's newest record.
        days: The trading days that the raw table has rows of.
        former: Topics that the feed had before, as far as they are still there.
        expected: When messages of it are expected; None where silence means nothing.
    """

    feed: str
    family: str
    table: str
    topic_name: str
    topic: TopicState | NoAnswer | None
    ledger: Ledger | Untrusted | NoAnswer
    in_flight: tuple[RangeSet, ...] = ()
    failed: tuple[FailedRun, ...] = ()
    newest: datetime | None = None
    days: frozenset[date] = frozenset()
    former: tuple[TopicState, ...] = ()
    expected: Expectation | None = None

    @property
    def is_fine(self) -> bool:
        """Tell whether its table and its topic answer, and its ledger can be trusted."""
        return isinstance(self.ledger, Ledger) and not isinstance(self.topic, NoAnswer)


@dataclass(frozen=True)
class FailingSensor:
    """Describes a sensor whose last ticks failed: when, newest first, and the last one's error.

    ``feed`` and ``family`` are None where it is of no single feed.
    """

    name: str
    feed: str | None
    family: str | None
    failed: tuple[datetime, ...]
    error: str


@dataclass(frozen=True)
class DiskUse:
    """A disk that data lies on: where, how much of it is in use, and how many bytes are free."""

    path: str
    used: float
    free: int


@dataclass(frozen=True)
class AlarmFacts:
    """Describes what one look found.

    Attributes:
        feeds: What it found of each feed.
        registry: Why the schema registry gave no answer, if it gave none.
        failing: Sensors whose last ticks failed.
        now: When it was.
        refused: The feed files that were refused when the sensors' process started.
        changed: How the feed files differ from those the sensors' process started with, a text each.
        closed_pools: Pools of runs that have no slot.
        disks: The disks that data lies on.
    """

    feeds: tuple[FeedFacts, ...]
    registry: NoAnswer | None
    failing: tuple[FailingSensor, ...]
    now: datetime
    refused: tuple[RefusedFile, ...] = ()
    changed: tuple[str, ...] = ()
    closed_pools: tuple[str, ...] = ()
    disks: tuple[DiskUse, ...] = ()


@dataclass(frozen=True)
class LastLook:
    """Describes what is remembered of earlier looks.

    Attributes:
        topics: For each feed the topics its name has stood for, as they were last seen, latest last.
        fine_since: Since when a feed's services have answered without a break and its ledger could be trusted.
        first: When a feed was first looked at.
        heard: When a feed's topic was last seen to have grown, or since when it has been watched.
        at: When the last look was.
    """

    topics: Mapping[str, tuple[TopicState, ...]] = field(default_factory=dict)
    fine_since: Mapping[str, datetime] = field(default_factory=dict)
    first: Mapping[str, datetime] = field(default_factory=dict)
    heard: Mapping[str, datetime] = field(default_factory=dict)
    at: datetime | None = None

    def then(self, facts: AlarmFacts) -> "LastLook":
        """Return the memory after a round of facts."""
        fine = (each.family for each in facts.feeds if each.is_fine)
        return LastLook(
            topics={each.family: _remembered(self.topics.get(each.family, ()), each.topic) for each in facts.feeds},
            fine_since={family: self.fine_since.get(family, facts.now) for family in fine},
            first={each.family: self.first.get(each.family, facts.now) for each in facts.feeds},
            heard={each.family: self._heard(each, facts.now) for each in facts.feeds},
            at=facts.now,
        )

    def _heard(self, feed: FeedFacts, now: datetime) -> datetime:
        before = self.heard.get(feed.family)
        if before is None or self.at is None or now - self.at > WATCHED_ANEW_AFTER:
            return now
        known = {each.topic_id: each for each in self.topics.get(feed.family, ())}
        topic = feed.topic
        if not isinstance(topic, TopicState):
            return before
        ends = {} if topic.topic_id not in known else {p.partition: p.high for p in known[topic.topic_id].partitions}
        return now if any(each.high > ends.get(each.partition, 0) for each in topic.partitions) else before


def _remembered(before: tuple[TopicState, ...], topic: TopicState | NoAnswer | None) -> tuple[TopicState, ...]:
    if not isinstance(topic, TopicState):
        return before
    return (*(each for each in before if each.topic_id != topic.topic_id), topic)[-REMEMBERED_TOPICS:]
