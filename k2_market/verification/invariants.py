"""Defines the invariants that verification checks, I1 to I8, and the form of its results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_PLACES = 1000
"""Places a violation names; its count goes on."""


class Invariant(StrEnum):
    """Describes what must hold, under the ids of ``docs/reliability.md``."""

    NOTHING_LOST = "I1"
    NOTHING_TWICE = "I2"
    HISTORY = "I3"
    ROWS_AND_OFFSETS = "I4"
    CONTENT = "I5"
    READABLE = "I6"
    BARS = "I7"
    NOTHING_SILENT = "I8"
    OWNED = "I9"


STATEMENTS: Mapping[Invariant, str] = {
    Invariant.NOTHING_LOST: "every message the broker gives is a row",
    Invariant.NOTHING_TWICE: "no offset has two rows",
    Invariant.HISTORY: "commits are disjoint and make the ledger",
    Invariant.ROWS_AND_OFFSETS: "rows are as many, and where, as told",
    Invariant.CONTENT: "rows say what their messages say",
    Invariant.READABLE: "all files of all snapshots are whole",
    Invariant.BARS: "trades and bars are what the messages amount to",
    Invariant.NOTHING_SILENT: "holes, losses and dead letters are told",
    Invariant.OWNED: "the table is this home's, and no other's",
}


@dataclass(frozen=True)
class Violation:
    """Something that does not hold, and exactly where.

    Attributes:
        invariant: What it breaks.
        what: A sentence for a person.
        where: Offset ranges, rows, files or snapshots; the first ``MAX_PLACES``.
        count: How many offsets, rows or files there are in all.
    """

    invariant: Invariant
    what: str
    where: tuple[str, ...]
    count: int


def violation(invariant: Invariant, what: str, where: Iterable[str], count: int | None = None) -> Violation:
    """Return a violation; ``count`` is the number of places unless given."""
    places = tuple(where)
    return Violation(invariant, what, places[:MAX_PLACES], len(places) if count is None else count)


@dataclass(frozen=True)
class Note:
    """Something that is so and is no fault of the table's: a hole, a loss on record, a dead letter, what is pending."""

    what: str
    where: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Verification:
    """Describes what came of a verification.

    Attributes:
        subject: The table, as ``asx.ohlcv_1d``, or what else was looked at.
        looked_at: For each invariant that was looked at, at how much.
        violations: What does not hold.
        notes: What else there is to know.
        not_looked_at: What was not to be looked at, and why.
        unanswered: What should have been looked at and could not be.
    """

    subject: str
    looked_at: Mapping[Invariant, str]
    violations: tuple[Violation, ...]
    notes: tuple[Note, ...] = ()
    not_looked_at: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Say whether everything could be verified, and holds."""
        return not (self.violations or self.unanswered)
