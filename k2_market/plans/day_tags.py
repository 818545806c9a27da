"""Names the Iceberg tags that keep a table's state at the end of a trading day, and decides how long they stay."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

KEPT_DAYS = 30
"""Number of days whose tags a table keeps. Each keeps a snapshot, which costs every commit a millisecond, and the files
that were compacted or built anew since."""

_PREFIX = "day-"


@dataclass(frozen=True)
class TagPlan:
    """Plans a table's tags: one to be set on its current snapshot, if any, and some to be removed."""

    added: str | None
    removed: tuple[str, ...]


def tag_of(day: date) -> str:
    """Return the name of a day's tag, as ``day-2026-11-20``."""
    return f"{_PREFIX}{day}"


def tagged_day(name: str) -> date | None:
    """Return the day that a tag is of; None for a tag that is not K2's own."""
    try:
        return date.fromisoformat(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
    except ValueError:
        return None


def plan_tags(names: Iterable[str], day: date | None) -> TagPlan:
    """Tell what is to be done after a day's close.

    A tag that is there stays where it is. Only the ``KEPT_DAYS`` latest days keep theirs; tags of other names are
    nobody's business here.

    Args:
        names: The table's tags.
        day: The day whose end the table's current snapshot is; None where it is of no day's end.
    """
    there = {found: name for name in names if (found := tagged_day(name)) is not None}
    wanted = sorted({*there, *([] if day is None else [day])}, reverse=True)[:KEPT_DAYS]
    added = tag_of(day) if day is not None and day in wanted and day not in there else None
    return TagPlan(added, tuple(name for found, name in sorted(there.items()) if found not in wanted))
