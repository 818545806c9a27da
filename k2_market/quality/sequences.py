"""Finds missing sequence numbers (#011).

``missing_ranges`` looks at a whole day, ``SequenceTracker`` at one message after the other. Both speak of the
numbers between the lowest and the highest seen: what came before and after can't be known, since no feed is assumed
to start at 1. They give the same answer, as far as the tracker's bounds on memory let it remember.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from k2_market.feeds.feed import SequenceScope
from k2_market.frames.day_batches import DayBatches, compact_frames, frames, plain
from k2_market.frames.number_runs import runs_of, union_of

_NUMBER = "sequence_number"


@dataclass(frozen=True)
class MissingRange:
    """Numbers of which no message came.

    Attributes:
        key: The symbol, or ``<topic id>/<partition>``, within which the feed counts.
        first: The first missing number.
        last: The last missing number.
        before_time: exchange_timestamp of the message with number ``first - 1``.
        after_time: exchange_timestamp of the message with number ``last + 1``.
    """

    key: str
    first: int
    last: int
    before_time: datetime
    after_time: datetime

    @property
    def count(self) -> int:
        """Tell how many numbers are missing."""
        return self.last - self.first + 1


def missing_ranges(day: DayBatches, scope: SequenceScope) -> list[MissingRange]:
    """Return every range of numbers that a day lacks, in order of key and number.

    Args:
        day: Rows of one trading day with ``symbol``, ``sequence_number``, ``exchange_timestamp``,
            ``kafka_topic_id`` and ``kafka_partition``: raw rows rather than trades, since cancels have numbers too.
            Rows without a number, dead letters among them, count for nothing.
        scope: Within what the feed counts; where it does not, nothing is known to be missing.
    """
    if scope is SequenceScope.NONE:
        return []
    key = ["symbol"] if scope is SequenceScope.SYMBOL else ["kafka_topic_id", "kafka_partition"]
    batches = compact_frames(day, [*key, _NUMBER])
    seen = [plain(runs_of(numbers.drop_nulls(_NUMBER), key, _NUMBER)) for numbers in batches]
    holes = _holes(union_of(seen, key), key) if seen else pl.DataFrame()
    if holes.is_empty():
        return []
    times = _times_beside(holes, frames(day, [*key, _NUMBER, "exchange_timestamp"]), key)
    with_times = holes.join(times, left_on=[*key, "before"], right_on=[*key, _NUMBER]).join(
        times, left_on=[*key, "after"], right_on=[*key, _NUMBER], suffix="_after"
    )
    in_order = with_times.select(
        pl.concat_str(key, separator="/").alias("key"), pl.col("before") + 1, pl.col("after") - 1, "time", "time_after"
    ).sort("key", "before")
    return [MissingRange(*hole) for hole in in_order.iter_rows()]


def _holes(runs: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Return neighbours ``before`` and ``after`` with nothing seen between them, by key."""
    before = pl.col("last").shift(1).over(key)
    return runs.select(*key, before.alias("before"), pl.col("first").alias("after")).drop_nulls("before")


def _times_beside(holes: pl.DataFrame, messages: Iterable[pl.DataFrame], key: list[str]) -> pl.DataFrame:
    """Return the earliest ``time`` of each number on either side of a hole."""
    beside = pl.concat(holes.select(*key, pl.col(side).alias(_NUMBER)) for side in ("before", "after"))
    found = [each.join(beside, on=[*key, _NUMBER], how="semi") for each in messages]
    return pl.concat(found).group_by(*key, _NUMBER).agg(pl.col("exchange_timestamp").min().alias("time"))


@dataclass(frozen=True)
class Gap:
    """Numbers were left out: ``first`` to ``last``, both included."""

    key: Hashable
    first: int
    last: int

    @property
    def count(self) -> int:
        """Tell how many numbers were left out."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class LateFill:
    """A number that was outstanding, or just below the lowest seen, came after all."""

    key: Hashable
    number: int


@dataclass(frozen=True)
class Duplicate:
    """A number came that was seen before."""

    key: Hashable
    number: int


@dataclass(frozen=True)
class OutOfReach:
    """A number came from so far below that the feed has restarted its numbers or it says nothing; it is left alone."""

    key: Hashable
    number: int


Observation = Gap | LateFill | Duplicate | OutOfReach


class SequenceTracker:
    """Watches the sequence numbers of many keys, as a live producer sees them, in bounded memory.

    A lower number never makes a gap, nor does it move the mark from which the next is counted; so a feed that
    restarts its numbers raises no false alarm. Where the restart is known, as at the start of a day, ``forget``
    the key or make the day part of it.

    It is not safe to share between threads.
    """

    def __init__(self, capacity: int = 10_000, reach: int = 1_000, max_ranges: int = 256) -> None:
        """Make an empty tracker.

        Args:
            capacity: Keys kept; past that the one not seen for longest is forgotten, and taken as new if it returns.
            reach: How far below the lowest number seen another is still taken as late.
            max_ranges: Outstanding ranges kept per key; past that the lowest is forgotten, with all below it.
        """
        if capacity < 1 or reach < 0 or max_ranges < 1:
            raise ValueError(
                f"a tracker needs room for a key and a range: got {capacity=}, {reach=}, {max_ranges=}; "
                "expected capacity >= 1, reach >= 0, max_ranges >= 1"
            )
        self._capacity = capacity
        self._reach = reach
        self._max_ranges = max_ranges
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()
        self.evictions = 0
        """Keys forgotten for want of room, so far."""

    @property
    def key_count(self) -> int:
        """Keys remembered."""
        return len(self._seen)

    def __contains__(self, key: Hashable) -> bool:
        """Say whether a key is remembered."""
        return key in self._seen

    def observe(self, key: Hashable, number: int) -> Observation | None:
        """Takes note of a message.

        Args:
            key: Within what the feed counts.
            number: The message's sequence number, of 64 bits.

        Returns:
            What is remarkable about it; nothing for the first of its key and for the one after the highest.
        """
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(number)
            if len(self._seen) > self._capacity:
                self._seen.popitem(last=False)
                self.evictions += 1
            return None
        self._seen.move_to_end(key)
        if number == seen.high + 1:
            seen.high = number
            return None
        if number > seen.high:
            gap = Gap(key, seen.high + 1, number - 1)
            seen.high = number
            seen.leave_out(len(seen.firsts), gap.first, gap.last, self._max_ranges)
            return gap
        if number >= seen.low:
            return LateFill(key, number) if seen.fill(number, self._max_ranges) else Duplicate(key, number)
        if seen.forgot_ranges or seen.low - number > self._reach:
            return OutOfReach(key, number)
        lowest_before, seen.low = seen.low, number
        if lowest_before - number > 1:
            seen.leave_out(0, number + 1, lowest_before - 1, self._max_ranges)
        return LateFill(key, number)

    def outstanding(self, key: Hashable) -> tuple[Gap, ...]:
        """Return the ranges missing between the lowest and the highest number seen; none of a forgotten key."""
        seen = self._seen.get(key)
        if seen is None:
            return ()
        return tuple(Gap(key, first, last) for first, last in zip(seen.firsts, seen.lasts, strict=True))

    def forget(self, key: Hashable) -> None:
        """Forgets a key whose numbers are about to start anew."""
        self._seen.pop(key, None)


class _Seen:
    """Describes what was seen of one key: all from ``low`` to ``high`` but the ranges ``firsts[i]`` to ``lasts[i]``."""

    __slots__ = ("firsts", "forgot_ranges", "high", "lasts", "low")

    def __init__(self, number: int) -> None:
        self.low = self.high = number
        self.firsts = array("q")
        self.lasts = array("q")
        self.forgot_ranges = False

    def leave_out(self, place: int, first: int, last: int, max_ranges: int) -> None:
        """Adds a range; if there are too many, the lowest goes and nothing below it is judged any more."""
        self.firsts.insert(place, first)
        self.lasts.insert(place, last)
        if len(self.firsts) > max_ranges:
            self.low = self.lasts[0] + 1
            del self.firsts[0], self.lasts[0]
            self.forgot_ranges = True

    def fill(self, number: int, max_ranges: int) -> bool:
        """Takes a number out of the range that lacks it; false if none does."""
        place = bisect_right(self.firsts, number) - 1
        if place < 0 or self.lasts[place] < number:
            return False
        first, last = self.firsts[place], self.lasts[place]
        if first == last:
            del self.firsts[place], self.lasts[place]
        elif number == first:
            self.firsts[place] = number + 1
        elif number == last:
            self.lasts[place] = number - 1
        else:
            self.lasts[place] = number - 1
            self.leave_out(place + 1, number + 1, last, max_ranges)
        return True
