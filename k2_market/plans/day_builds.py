"""Records in a table's properties how new each day's raw rows are, and which version each build was made from.

A raw table gives every day a version: the sequence number of the commit that last added or rewrote rows of it. A built
table notes for every day the version it was made from. Which days are to be built follows from the two, whatever else
was lost: snapshots expire, and Dagster's records can be wiped.

A day usually depends on its own rows alone. A cancel or correction may name a trade of an earlier day, which then
depends on the rows of both days.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from k2_market.errors import LedgerError

VERSIONS_PROPERTY = "k2.day-versions"
"""Property of a raw table: the version of each day's rows, as JSON."""

BUILDS_PROPERTY = "k2.day-builds"
"""Property of a built table: what each day was made from, as JSON."""

AMENDMENT_REACH = timedelta(days=31)
"""Reach back of cancels and corrections to the trade that they name."""

Versions = Mapping[date, int]
"""The version of each day's raw rows."""


@dataclass(frozen=True)
class DayBuild:
    """Describes what a built day was made from.

    Attributes:
        version: The version of the day's raw rows.
        rules: The fingerprint of the rules it was built under.
        others: Other days whose rows it depends on, and their versions: earlier days that hold trades which this
            day's cancels and corrections name, and later days whose cancels and corrections name trades of this day.
        sought: The raw table's sequence number when earlier days were searched in vain for a trade that a cancel or
            correction names; None if none was missing.
    """

    version: int
    rules: str
    others: Versions = field(default_factory=dict)
    sought: int | None = None


Builds = Mapping[date, DayBuild]
"""Property with the raw version and rules that each built day was made from."""


def stale_days(versions: Versions, builds: Builds) -> list[date]:
    """List the days whose rows, or those of a day they depend on, are newer than what was built, oldest first."""
    naming = days_naming(builds)
    return sorted(day for day in versions if _is_stale(day, versions, builds.get(day), naming.get(day, frozenset())))


def days_naming(builds: Builds) -> dict[date, frozenset[date]]:
    """Map each day to the later days whose cancels and corrections were found to name trades of it."""
    naming: dict[date, set[date]] = {}
    for day, build in builds.items():
        for other in build.others:
            if other < day:
                naming.setdefault(other, set()).add(day)
    return {day: frozenset(later) for day, later in naming.items()}


def _is_stale(day: date, versions: Versions, build: DayBuild | None, naming: Iterable[date]) -> bool:
    if build is None or versions[day] > build.version:
        return True
    if any(versions.get(other, 0) > version for other, version in build.others.items()):
        return True
    if any(later not in build.others for later in naming):
        return True
    return build.sought is not None and any(
        day - AMENDMENT_REACH <= other < day and version > build.sought for other, version in versions.items()
    )


def outdated_days(builds: Builds, rules: str) -> list[date]:
    """List the days that were built under other rules than those of a fingerprint, oldest first."""
    return sorted(day for day, build in builds.items() if build.rules != rules)


def supersedes(new: DayBuild, published: DayBuild | None) -> bool:
    """Tell whether a build may replace the published one: it may not be of older rows."""
    return published is None or new.version >= published.version


def versions_to_json(versions: Versions) -> str:
    """Write versions as the text of ``VERSIONS_PROPERTY``."""
    return _to_json({str(day): version for day, version in sorted(versions.items())})


def versions_from_json(text: str) -> dict[date, int]:
    """Read the text of ``VERSIONS_PROPERTY``.

    Raises:
        LedgerError: The text is no such record.
    """
    try:
        return {date.fromisoformat(day): int(version) for day, version in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise LedgerError(f"table property {VERSIONS_PROPERTY} has no versions of days: {error!r}") from error


def builds_to_json(builds: Builds) -> str:
    """Write builds as the text of ``BUILDS_PROPERTY``: by day version and rules, and the rest where there is any."""
    return _to_json({str(day): _entry(build) for day, build in sorted(builds.items())})


def builds_from_json(text: str) -> dict[date, DayBuild]:
    """Read the text of ``BUILDS_PROPERTY``.

    Raises:
        LedgerError: The text is no such record.
    """
    try:
        return {date.fromisoformat(day): _build(entry) for day, entry in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise LedgerError(f"table property {BUILDS_PROPERTY} has no builds of days: {error!r}") from error


def _entry(build: DayBuild) -> list[object]:
    entry: list[object] = [build.version, build.rules]
    if build.others or build.sought is not None:
        entry += [{str(day): version for day, version in sorted(build.others.items())}, build.sought]
    return entry


def _build(entry: list[object]) -> DayBuild:
    version, rules, *rest = entry
    others, sought = rest or ({}, None)
    if not isinstance(others, dict):
        raise ValueError(f"found {others!r}, expected days and versions")
    return DayBuild(
        version=int(str(version)),
        rules=str(rules),
        others={date.fromisoformat(day): int(number) for day, number in others.items()},
        sought=None if sought is None else int(str(sought)),
    )


def _to_json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))
