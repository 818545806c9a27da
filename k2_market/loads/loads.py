"""Decides from the records of earlier loads whether files are loaded again, and what an unload takes back.

A load is known by what its files hold. The same content is refused whatever its name; so is a trading day whose rows
(symbol, time, price, quantity) are those of a file that was loaded before, under other trade ids, since both would
count. The same rows under the same ids count once, and are only mentioned.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from k2_market.errors import K2Error
from k2_market.loads.row_hashes import DayOfRows

_VERSION = 1
_DAYS_NAMED = 3


class LoadError(K2Error):
    """A load can't be recorded, found or taken back."""


class LoadedBefore(LoadError):
    """What is to be loaded was loaded before."""


class LoadState(StrEnum):
    """Describes how far a load has come."""

    BEGUN = "begun"
    """Some of its messages may be in the topic: it is under way, or its process ended."""
    COMPLETE = "complete"
    """All of its messages were confirmed."""
    UNLOADED = "unloaded"
    """Its trades were cancelled."""


class LoadKind(StrEnum):
    """Describes what a command sent."""

    LOAD = "load"
    UNLOAD = "unload"
    AMENDMENT = "amendment"


@dataclass(frozen=True)
class LoadedFile:
    """Describes a file of a load.

    Attributes:
        name: Its name as it was given.
        content_hash: SHA-256 of its content, unpacked.
        rows: How many it has.
        days: Its rows by trading day.
    """

    name: str
    content_hash: str
    rows: int
    days: tuple[DayOfRows, ...]


@dataclass(frozen=True)
class Load:
    """Describes what one command sent.

    Attributes:
        load_id: The correlation id of its messages.
        kind: Whether it loaded files, took a load back, or amended a trade.
        state: How far it has come.
        time: When it began.
        rows: Messages.
        first: The earliest time of its trades; None without rows.
        last: The latest.
        topic_id: The topic's.
        offsets: By partition, where its messages lie: from the end of the log before to the end after; messages of
            others may lie between them.
        about: The load that an unload took back, or the trade that an amendment is about.
        again: Whether it was loaded although it had been before.
        files: What it was made of.
    """

    load_id: str
    kind: LoadKind
    state: LoadState
    time: datetime
    rows: int
    first: datetime | None
    last: datetime | None
    topic_id: str = ""
    offsets: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    about: str = ""
    again: bool = False
    files: tuple[LoadedFile, ...] = ()

    @property
    def days(self) -> frozenset[date]:
        """The trading days of its rows."""
        return frozenset(each.day for file in self.files for each in file.days)

    def to_records(self) -> dict[str, str]:
        """Write it as JSON by key: one record for itself, one for each file, since a file may have many days."""
        own = {**asdict(replace(self, files=())), "version": _VERSION, "files": len(self.files)}
        own["offsets"] = {str(partition): list(span) for partition, span in self.offsets.items()}
        files = {
            f"{self.load_id}/{number}": {**asdict(file), "days": [_day_to_list(day) for day in file.days]}
            for number, file in enumerate(self.files)
        }
        return {key: json.dumps(value, default=str) for key, value in {**files, self.load_id: own}.items()}


def loads_of_records(records: Mapping[str, str]) -> tuple[Load, ...]:
    """Read what ``to_records`` wrote, the earliest load first.

    Args:
        records: The latest value of each key.

    Raises:
        LoadError: A record is of a later version, or none.
    """
    loads = []
    for key, text in records.items():
        if "/" not in key:
            loads.append(_load(key, text, records))
    return tuple(sorted(loads, key=lambda load: (load.time, load.load_id)))


def _load(key: str, text: str, records: Mapping[str, str]) -> Load:
    try:
        own = json.loads(text)
        if own.pop("version") != _VERSION:
            raise LoadError(f"load {key}: its record is of a later version of K2; use that one")
        files = tuple(_file(json.loads(records[f"{key}/{number}"])) for number in range(own.pop("files")))
        instants = {name: own.pop(name) for name in ("time", "first", "last")}
        times: dict[str, Any] = {
            name: None if each is None else datetime.fromisoformat(each) for name, each in instants.items()
        }
        spans = {int(partition): (span[0], span[1]) for partition, span in own.pop("offsets").items()}
        kind, state = LoadKind(own.pop("kind")), LoadState(own.pop("state"))
        return Load(**own, **times, kind=kind, state=state, offsets=spans, files=files)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LoadError(f"load {key}: its record can't be read: {error!r} in {text[:200]!r}") from error


def _day_to_list(day: DayOfRows) -> list[Any]:
    return [day.day.isoformat(), day.rows, day.rows_hash, day.ids_hash]


def _file(found: dict[str, Any]) -> LoadedFile:
    days = tuple(DayOfRows(date.fromisoformat(day), rows, one, other) for day, rows, one, other in found.pop("days"))
    return LoadedFile(**found, days=days)


@dataclass(frozen=True)
class LoadDecision:
    """Holds what earlier loads have to do with files that are to be loaded.

    Attributes:
        refusals: Reasons to refuse them.
        remarks: What is worth saying.
    """

    refusals: tuple[str, ...]
    remarks: tuple[str, ...]


def judge(files: Iterable[LoadedFile], loads: Sequence[Load]) -> LoadDecision:
    """Hold files against the loads that stand: those that are complete and were not taken back.

    Args:
        files: What is to be loaded.
        loads: Those of the feed.
    """
    refusals: list[str] = []
    remarks: list[str] = []
    before = [(load, file) for load in loads if _stands(load) for file in load.files if file.rows]
    contents: dict[str, tuple[Load, LoadedFile]] = {}
    days_before: _DaysBefore = {}
    for number, (load, earlier) in enumerate(before):
        contents.setdefault(earlier.content_hash, (load, earlier))
        for each in earlier.days:
            days_before.setdefault((each.day, each.rows_hash), []).append((number, each.ids_hash))
    for file in files:
        same = contents.get(file.content_hash)
        if same is not None and file.rows:
            refusals.append(f"{file.name}: has the content of {_named(*same)}")
            continue
        doubled, alike = _days_loaded_before(file, before, days_before)
        for (load, other), days in doubled:
            refusals.append(
                f"{file.name}: its {sum(day.rows for day in days):,} rows of {_listed(days)} are those of "
                f"{_named(load, other)}, under other trade ids: they would count twice"
            )
        for (load, other), days in alike:
            remarks.append(
                f"{file.name}: its rows of {_listed(days)} are those of {_named(load, other)}, under the same ids: "
                "they count once"
            )
    return LoadDecision(tuple(refusals), tuple(remarks))


_DaysBefore = dict[tuple[date, str], list[tuple[int, str]]]
"""Files that had a day's rows, by their place among the earlier ones, with the hash of their ids."""

_FilesBefore = list[tuple[tuple[Load, LoadedFile], list[DayOfRows]]]


def _days_loaded_before(
    file: LoadedFile, before: Sequence[tuple[Load, LoadedFile]], days_before: _DaysBefore
) -> tuple[_FilesBefore, _FilesBefore]:
    """Return the days of a file whose rows are there under other ids, and those that are there under the same."""
    doubled: dict[int, list[DayOfRows]] = {}
    alike: dict[int, list[DayOfRows]] = {}
    for day in file.days:
        found = days_before.get((day.day, day.rows_hash), [])
        same = [number for number, ids_hash in found if ids_hash == day.ids_hash]
        if same:
            alike.setdefault(same[0], []).append(day)
        elif found:
            doubled.setdefault(found[0][0], []).append(day)
    return _by_file(doubled, before), _by_file(alike, before)


def _by_file(days: Mapping[int, list[DayOfRows]], before: Sequence[tuple[Load, LoadedFile]]) -> _FilesBefore:
    return [(before[number], each) for number, each in days.items()]


def times_unloaded(content_hash: str, loads: Iterable[Load]) -> int:
    """Count how often a content was loaded and taken back: its trades' ids are cancelled for good each time."""
    return sum(
        load.state is LoadState.UNLOADED and any(file.content_hash == content_hash for file in load.files)
        for load in loads
    )


def load_named(load_id: str, loads: Sequence[Load]) -> Load:
    """Give the load whose id begins as some text does.

    Raises:
        LoadError: None does, or several do.
    """
    found = [load for load in loads if load_id and load.load_id.startswith(load_id)]
    if len(found) != 1:
        which = "no load has" if not found else f"{len(found)} loads have"
        raise LoadError(f"{which} an id that begins with {load_id!r}; `k2 loads` lists them")
    return found[0]


def _stands(load: Load) -> bool:
    return load.kind is LoadKind.LOAD and load.state is LoadState.COMPLETE


def _named(load: Load, file: LoadedFile) -> str:
    return f"{file.name}, loaded at {load.time:%Y-%m-%dT%H:%M:%SZ} (load {load.load_id[:8]})"


def _listed(days: Sequence[DayOfRows]) -> str:
    more = f" and {len(days) - _DAYS_NAMED} more days" if len(days) > _DAYS_NAMED else ""
    return ", ".join(str(day.day) for day in days[:_DAYS_NAMED]) + more
