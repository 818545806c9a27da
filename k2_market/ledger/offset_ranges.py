"""Computes with sets of offset ranges: union, difference, intersection, gaps.

An offset range is half open: ``start`` belongs to it, ``end`` does not.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAX_RANGES_NAMED = 16
"""Ranges that a sentence names; a chat's message holds no more."""


@dataclass(frozen=True, order=True)
class OffsetRange:
    """The offsets ``[start, end)`` of one partition of one topic; ``topic_id`` is Kafka's own UUID."""

    topic_id: str
    partition: int
    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.end <= self.start or self.partition < 0:
            raise ValueError(f"not an offset range: partition {self.partition}, [{self.start}, {self.end})")

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}[{self.start},{self.end})"

    @classmethod
    def parse(cls, text: str) -> "OffsetRange":
        """Return the range that ``str`` wrote.

        Raises:
            ValueError: The text is no range.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"not an offset range: {text!r}, expected topic-id/partition[start,end)")
        return cls(found[1], int(found[2]), int(found[3]), int(found[4]))


_TEXT = re.compile(r"(.+)/(\d+)\[(\d+),(\d+)\)")


Span = tuple[int, int]


@dataclass(frozen=True)
class RangeSet:
    """A set of offsets, kept as disjoint, coalesced, sorted ranges per topic and partition.

    Equal sets are equal values, in whatever order and pieces they were put together.
    """

    spans: Mapping[tuple[str, int], tuple[Span, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, ranges: Iterable[OffsetRange]) -> "RangeSet":
        """Return the union of some ranges, which may overlap."""
        collected: dict[tuple[str, int], list[Span]] = {}
        for each in ranges:
            collected.setdefault((each.topic_id, each.partition), []).append((each.start, each.end))
        return cls({key: _coalesced(spans) for key, spans in sorted(collected.items())})

    def __iter__(self) -> Iterator[OffsetRange]:
        for (topic_id, partition), spans in self.spans.items():
            for start, end in spans:
                yield OffsetRange(topic_id, partition, start, end)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __len__(self) -> int:
        """Tell how many offsets are in the set."""
        return sum(end - start for spans in self.spans.values() for start, end in spans)

    def __or__(self, other: "RangeSet") -> "RangeSet":
        return RangeSet.of([*self, *other])

    def __sub__(self, other: "RangeSet") -> "RangeSet":
        left = {key: _minus(spans, other.spans.get(key, ())) for key, spans in self.spans.items()}
        return RangeSet({key: spans for key, spans in left.items() if spans})

    def __and__(self, other: "RangeSet") -> "RangeSet":
        return self - (self - other)

    def isdisjoint(self, other: "RangeSet") -> bool:
        """Say whether no offset is in both."""
        return not self & other

    def issubset(self, other: "RangeSet") -> bool:
        """Say whether every offset of this set is in the other."""
        return not self - other

    def of_topic(self, topic_id: str) -> "RangeSet":
        """Return the part of the set that lies in one topic."""
        return RangeSet({key: spans for key, spans in self.spans.items() if key[0] == topic_id})

    def contains(self, topic_id: str, partition: int, offset: int) -> bool:
        """Say whether one offset is in the set."""
        return any(start <= offset < end for start, end in self.spans.get((topic_id, partition), ()))


def halves(ranges: RangeSet) -> tuple[RangeSet, RangeSet]:
    """Cut some offsets, in the order of topic, partition and offset, into two halves."""
    left = len(ranges) // 2
    first: list[OffsetRange] = []
    for each in ranges:
        if left <= 0:
            break
        first.append(OffsetRange(each.topic_id, each.partition, each.start, min(each.end, each.start + left)))
        left -= len(each)
    half = RangeSet.of(first)
    return half, ranges - half


def named(ranges: RangeSet) -> str:
    """Return ranges in a sentence; beyond ``MAX_RANGES_NAMED`` they are counted."""
    texts = [str(each) for each in ranges]
    more = len(texts) - MAX_RANGES_NAMED
    return ", ".join(texts[:MAX_RANGES_NAMED]) + (f" and {more} more ranges" if more > 0 else "")


def _coalesced(spans: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def _minus(spans: tuple[Span, ...], taken: tuple[Span, ...]) -> tuple[Span, ...]:
    """Take spans out of others, both sorted and disjoint, in one pass over each."""
    left: list[Span] = []
    first = 0
    for start, end in spans:
        while first < len(taken) and taken[first][1] <= start:
            first += 1
        at = first
        while at < len(taken) and taken[at][0] < end and start < end:
            if taken[at][0] > start:
                left.append((start, taken[at][0]))
            start = taken[at][1]
            at += 1
        if start < end:
            left.append((start, end))
    return tuple(left)


SHORT_GAP = 50_000
"""Offsets that are read in less time than a consumer needs to start; a reader starts one a round of islands."""


def bridged(ranges: RangeSet, short_gap: int = SHORT_GAP) -> RangeSet:
    """Return the ranges, with those joined that lie no further apart than ``short_gap`` offsets.

    Begins and ends where the ranges do, so where all of them can be read, what is between them can be too, if a
    partition's log is retained without a break.
    """
    return RangeSet({key: _joined(spans, short_gap) for key, spans in ranges.spans.items()})


def _joined(spans: tuple[Span, ...], short_gap: int) -> tuple[Span, ...]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= short_gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
