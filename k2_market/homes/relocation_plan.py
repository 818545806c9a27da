"""Decides what becomes of a catalog's tables when their home has been moved or copied to another place (#055)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """Describes what is to be done with a table."""

    LEAVE = "leave"
    """It is ours already."""
    MARK = "mark"
    """It lies in our warehouse and gets our mark."""
    MOVE = "move"
    """Its files are in our warehouse, its metadata names another place: it is written anew."""


@dataclass(frozen=True)
class TableFacts:
    """Describes what is known of a table that a catalog names.

    Attributes:
        name: The table, as ``asx.ohlcv_1d``.
        place: Where its metadata says that it lies.
        lies_inside: Whether that is in our warehouse.
        marked_by: The catalog that its mark names; None where it has none.
        other_in_use: Whether that catalog, if it is another one, is still there; None where that can't be told.
        shared: Whether our warehouse's place for it and the place that it names are one and the same directory.
        missing: What is not in our warehouse of the files that it needs, in words; empty if all are there.
    """

    name: str
    place: str
    lies_inside: bool
    marked_by: str | None
    other_in_use: bool | None = None
    shared: bool = False
    missing: str = ""


@dataclass(frozen=True)
class Decision:
    """Describes what is to be done with a table, or why nothing can be."""

    name: str
    action: Action = Action.LEAVE
    refusal: str | None = None


def decide(facts: TableFacts, ours: str, *, take_over: bool) -> Decision:
    """Decide about a table.

    A table whose files have been copied is moved without a question, since nobody else uses the copies. A table whose
    files another catalog may still use is taken over only if that catalog is gone, or if we are told that it is.

    Args:
        facts: What is known of it.
        ours: Our catalog's identity.
        take_over: Whether whoever asks says that the other catalog is not used any more.
    """
    other = facts.marked_by if facts.marked_by != ours else None
    if facts.lies_inside and other is None:
        return Decision(facts.name)
    if facts.missing:
        return Decision(facts.name, refusal=_incomplete(facts))
    if (facts.lies_inside or facts.shared) and other is not None and facts.other_in_use is not False and not take_over:
        return Decision(facts.name, refusal=_in_use(facts, other))
    return Decision(facts.name, Action.MARK if facts.lies_inside else Action.MOVE)


def decide_all(tables: Sequence[TableFacts], ours: str, *, take_over: bool) -> list[Decision]:
    """Decide about all tables of a catalog; they are changed together, or not at all."""
    return [decide(each, ours, take_over=take_over) for each in tables]


def _incomplete(facts: TableFacts) -> str:
    return (
        f"{facts.name} lies at {facts.place}, and not all of its files are in this home's warehouse: {facts.missing}. "
        "Copy that place there as a whole while nothing writes to it, or set K2_WAREHOUSE to where the files are; a "
        "copy of a home that is in use is made with `k2 backup` and `k2 restore`"
    )


def _in_use(facts: TableFacts, other: str) -> str:
    known = "is still there" if facts.other_in_use else "can't be asked from here"
    return (
        f"{facts.name} lies at {facts.place} and belongs to the catalog {other}, which {known}: two catalogs that "
        "write the same files destroy each other's. If that catalog will never be used again, `k2 relocate "
        "--take-over` makes the table this home's; otherwise give this home a warehouse of its own"
    )
