"""Represents the ledger of a raw table: the offset ranges whose messages are rows, and those known to be lost.

It is a property of the table, written in the same commit as the rows it speaks of (refines #003), so a table
and its ledger can't drift apart by a crash.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from k2_market.errors import LedgerError
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet

PROPERTY = "k2.ledger"
"""Table property that holds the ledger as JSON."""

_VERSION = 1


@dataclass(frozen=True)
class Batch:
    """Describes what one commit brings: the offsets it stands for and what their messages turned out to be.

    ``covered`` may hold more offsets than ``messages``: the rest are holes, left by aborted transactions,
    control records or compaction, where the broker has no message to give.
    """

    batch_id: str
    covered: RangeSet
    messages: int
    dead_letters: int = 0
    late_rows: int = 0
    lost: RangeSet = field(default_factory=RangeSet)
    truncated: RangeSet = field(default_factory=RangeSet)
    set_aside: RangeSet = field(default_factory=RangeSet)


def join_batches(batches: Iterable[Batch]) -> Batch:
    """Return one or more batches as one, under the first one's id.

    Raises:
        LedgerError: Two of them stand for the same offset.
    """
    each = list(batches)
    covered = RangeSet.of(found for batch in each for found in batch.covered)
    if len(covered) < sum(len(batch.covered) for batch in each):
        raise LedgerError(f"batch {each[0].batch_id}: an offset stands in two of its {len(each)} deliveries")
    return Batch(
        batch_id=each[0].batch_id,
        covered=covered,
        messages=sum(batch.messages for batch in each),
        dead_letters=sum(batch.dead_letters for batch in each),
        late_rows=sum(batch.late_rows for batch in each),
        lost=RangeSet.of(found for batch in each for found in batch.lost),
        truncated=RangeSet.of(found for batch in each for found in batch.truncated),
        set_aside=RangeSet.of(found for batch in each for found in batch.set_aside),
    )


@dataclass(frozen=True)
class Ledger:
    """The sum of all batches committed to a raw table.

    Attributes:
        covered: Offsets whose messages are rows of the table, or which hold no message.
        lost: Offsets that retention removed before they could be read; never rows, never silent.
        truncated: Offsets in ``covered`` that the topic's log ended before when it was looked at: the broker lost
            data that it had acknowledged. What it gives at these offsets from then on is something else.
        set_aside: Offsets that runs failed of again and again (``failed_runs``). Those in ``covered`` are dead letters
            with their bytes; the others could not even be read. None is tried again but by a person's wish.
        topic_names: Name of each topic UUID that ever fed the table, in the order in which they came.
        messages: Rows committed. ``len(covered) - messages`` is the number of holes.
        dead_letters: Rows that would not decode.
        late_rows: Rows that came for a day whose ``trades`` had already been published.
        batch_id: The last batch committed; empty for a new table.
    """

    covered: RangeSet = field(default_factory=RangeSet)
    lost: RangeSet = field(default_factory=RangeSet)
    truncated: RangeSet = field(default_factory=RangeSet)
    set_aside: RangeSet = field(default_factory=RangeSet)
    topic_names: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    dead_letters: int = 0
    late_rows: int = 0
    batch_id: str = ""

    @property
    def holes(self) -> int:
        """Offsets covered that hold no message."""
        return len(self.covered) - self.messages

    @property
    def settled(self) -> RangeSet:
        """Give the offsets of which nothing is left to do: covered, or set aside."""
        return self.covered | self.set_aside

    @property
    def unread(self) -> RangeSet:
        """Give the offsets that were set aside without a row."""
        return self.set_aside - self.covered

    def has_news(self, batch: Batch) -> bool:
        """Tell whether a batch adds to the ledger: offsets, losses, truncations, offsets set aside."""
        cut = batch.truncated & (self.covered | batch.covered)
        return bool(
            batch.covered - self.covered
            or batch.lost - self.lost - self.settled
            or cut - self.truncated
            or batch.set_aside - self.settled
        )

    def with_batch(self, batch: Batch, topic_names: dict[str, str]) -> "Ledger":
        """Return the ledger after a batch.

        Raises:
            LedgerError: Some of the batch's offsets are in the ledger already, or it has more messages than offsets.
        """
        doubled = batch.covered & self.covered
        if doubled:
            raise LedgerError(f"batch {batch.batch_id}: offsets already in the ledger: {', '.join(map(str, doubled))}")
        if batch.messages > len(batch.covered):
            raise LedgerError(
                f"batch {batch.batch_id}: {batch.messages} messages from {len(batch.covered)} offsets; "
                "a range was read twice"
            )
        covered = self.covered | batch.covered
        # What another run has made rows of in the meantime need not be set aside, nor what a person had read again.
        set_aside = (self.set_aside - batch.covered) | (batch.set_aside - self.covered)
        return replace(
            self,
            covered=covered,
            lost=(self.lost | batch.lost) - covered - set_aside,
            # Of a table that was dropped since this was planned, nothing was cut off.
            truncated=self.truncated | (batch.truncated & covered),
            set_aside=set_aside,
            topic_names={**self.topic_names, **topic_names},
            messages=self.messages + batch.messages,
            dead_letters=self.dead_letters + batch.dead_letters,
            late_rows=self.late_rows + batch.late_rows,
            batch_id=batch.batch_id,
        )

    def repaired(self, batch_id: str, dead_letters: int, decoded: RangeSet | None = None) -> "Ledger":
        """Return the ledger after rows were written anew: the same offsets, and as many dead letters as there are now.

        Args:
            batch_id: Names the repair.
            dead_letters: How many there are.
            decoded: Offsets whose rows are no dead letters after it; they are not set aside any more.

        Raises:
            LedgerError: More dead letters than messages.
        """
        if not 0 <= dead_letters <= self.messages:
            raise LedgerError(f"repair {batch_id}: {dead_letters} dead letters among {self.messages} messages")
        set_aside = self.set_aside if decoded is None else self.set_aside - decoded
        return replace(self, batch_id=batch_id, dead_letters=dead_letters, set_aside=set_aside)

    def taken_back(self, batch_id: str, truncated: RangeSet, lost: RangeSet) -> "Ledger":
        """Return the ledger after some offsets were found not to be cut off, and others not to be lost."""
        return replace(self, batch_id=batch_id, truncated=self.truncated - truncated, lost=self.lost - lost)

    def to_json(self) -> str:
        """Return the ledger as the text of its table property."""
        topics: dict[str, Any] = {
            topic_id: {
                "name": name,
                "partitions": spans_to_json(self.covered.of_topic(topic_id)),
                "lost": spans_to_json(self.lost.of_topic(topic_id)),
                "truncated": spans_to_json(self.truncated.of_topic(topic_id)),
                "set_aside": spans_to_json(self.set_aside.of_topic(topic_id)),
            }
            for topic_id, name in self.topic_names.items()
        }
        return json.dumps(
            {
                "version": _VERSION,
                "batch_id": self.batch_id,
                "messages": self.messages,
                "holes": self.holes,
                "dead_letters": self.dead_letters,
                "late_rows": self.late_rows,
                "topics": topics,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> "Ledger":
        """Return the ledger that a property's text stands for.

        Raises:
            LedgerError: The text is not a ledger, or one of a version that this K2 does not know.
        """
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise LedgerError(f"ledger of version {content['version']}; this K2 reads version {_VERSION}")
            topics = content["topics"]
            return cls(
                covered=RangeSet.of(r for t, v in topics.items() for r in _ranges(t, v["partitions"])),
                lost=RangeSet.of(r for t, v in topics.items() for r in _ranges(t, v["lost"])),
                truncated=RangeSet.of(r for t, v in topics.items() for r in _ranges(t, v.get("truncated", {}))),
                set_aside=RangeSet.of(r for t, v in topics.items() for r in _ranges(t, v.get("set_aside", {}))),
                topic_names={topic_id: topic["name"] for topic_id, topic in topics.items()},
                messages=content["messages"],
                dead_letters=content["dead_letters"],
                late_rows=content["late_rows"],
                batch_id=content["batch_id"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerError(f"table property {PROPERTY} is not a ledger: {error!r} in {text[:200]!r}") from error


def spans_to_json(ranges: RangeSet) -> dict[str, list[list[int]]]:
    """Return the ranges of one topic as ``{"<partition>": [[start, end], …]}``."""
    return {str(partition): [list(span) for span in spans] for (_, partition), spans in ranges.spans.items()}


def _ranges(topic_id: str, partitions: dict[str, list[list[int]]]) -> list[OffsetRange]:
    return [
        OffsetRange(topic_id, int(partition), start, end)
        for partition, spans in partitions.items()
        for start, end in spans
    ]
