"""Reads a feed's TOML file: an exchange and asset class, declared there and nowhere else."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from difflib import get_close_matches
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from k2_market.errors import FeedFileError, UnknownFeedError
from k2_market.feeds.file_errors import EXPECTED, explain_problems
from k2_market.feeds.names import is_reserved
from k2_market.values.plain_texts import code_fault, split_codes

ALWAYS_OPEN = "24/7"
"""The calendar of an exchange that never closes."""


class AssetClass(StrEnum):
    """Describes what a feed's instruments are."""

    EQUITIES = "equities"
    CRYPTO = "crypto"
    FUTURES = "futures"
    OPTIONS = "options"


class SequenceScope(StrEnum):
    """Within what the feed's sequence numbers (FIX tag 34 or the exchange's own) count without holes."""

    SYMBOL = "symbol"
    PARTITION = "partition"
    NONE = "none"


def _known_timezone(name: str) -> str:
    if name not in available_timezones():
        near = get_close_matches(name, sorted(available_timezones()), n=2)
        raise ValueError(f"{name!r} is not a time zone of the IANA database{_did_you_mean(near)}")
    return name


def _not_reserved(name: str) -> str:
    if is_reserved(name):
        raise ValueError(f"{name!r} is a name or a word that SQL keeps for itself; choose another, as {name}_feed")
    return name


def _calendar_known(name: str) -> str:
    if name != ALWAYS_OPEN and not _is_calendar(name):
        raise ValueError(f"{name!r} is neither {ALWAYS_OPEN!r} nor a calendar of exchange_calendars{_like(name)}")
    return name


def _hours_and_minutes(found: Any) -> time:
    """Read ``"17:00"``, TOML's own ``17:00:00``, or that as text, which is how a feed is written down as JSON."""
    if isinstance(found, str) and re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9](:00)?", found):
        return time.fromisoformat(found)
    if isinstance(found, time) and found == found.replace(second=0, microsecond=0):
        return found
    raise ValueError(f"found {found!r}; expected {EXPECTED['session.day_starts']}")


def _one_code(code: str) -> str:
    if split_codes(code) != [code]:
        raise ValueError(f"{code!r} is not one condition code; expected {EXPECTED['conditions.no_price']}, a code each")
    fault = code_fault(code)
    if fault is not None:
        raise ValueError(fault)
    return code


def _owner(found: str) -> str:
    if re.fullmatch(r"team:[A-Za-z0-9][A-Za-z0-9_.-]*|[A-Za-z0-9._%+-]+@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}", found):
        return found
    raise ValueError(f"found {found!r}; expected {EXPECTED['owner']}")


_Code = Annotated[str, AfterValidator(_one_code)]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$"), AfterValidator(_not_reserved)]
_Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
_Model = ConfigDict(frozen=True, extra="forbid")


class Topics(BaseModel):
    """The feed's Kafka topics, ``market.<asset class>.<kind>.<exchange>``, keyed by symbol (#009)."""

    model_config = _Model
    trades: _Topic
    quotes: _Topic | None = None
    partitions: Annotated[int, Field(ge=1, le=1000)] = 30
    retention_bytes: Annotated[int, Field(ge=-1)] = -1
    """Bytes kept per partition; -1 keeps all. Never by time: record time is exchange time."""


class Sequence(BaseModel):
    """Describes how far the feed's sequence numbers can prove that nothing is missing (#011)."""

    model_config = _Model
    scope: SequenceScope = SequenceScope.NONE


class Conditions(BaseModel):
    """The feed's conditions profile (FIX tag 277): which codes keep a trade out of prices or of volume.

    A trade with several conditions is eligible only if all of them allow it.
    """

    model_config = _Model
    no_price: frozenset[_Code] = frozenset()
    no_volume: frozenset[_Code] = frozenset()


class IdScope(StrEnum):
    """Names what a trade id is unique within."""

    SYMBOL = "symbol"
    VENUE = "venue"
    FEED = "feed"
    DAY = "day"


class Ids(BaseModel):
    """Describes how the feed's trades are known."""

    model_config = _Model
    unique_within: IdScope = IdScope.SYMBOL
    """``symbol``: a symbol. ``venue``: a symbol and the ``exchange`` of the message. ``feed``: all symbols. ``day``: a
    symbol and trading day, so that a cancel names no trade of another day."""


class PriceRange(StrEnum):
    """Describes which prices the feed's trades may have."""

    POSITIVE = "positive"
    ANY = "any"


class Price(BaseModel):
    """Names which prices a feed may have."""

    model_config = _Model
    may_be: PriceRange = PriceRange.POSITIVE
    """``any`` where prices of zero and less are real: spreads, power, crude oil of 2020-04-20."""


class FeedSession(BaseModel):
    """Says when the feed's trading days begin, and how far from its calendar's hours eligible trades may lie."""

    model_config = _Model
    minutes_before: Annotated[int, Field(ge=0)] = 1
    """Minutes before each open, for auctions."""
    minutes_after: Annotated[int, Field(ge=0)] = 1
    """Minutes after each close."""
    day_starts: Annotated[time, BeforeValidator(_hours_and_minutes)] | None = None
    """The local time from which trades belong to the next trading day; from noon on, of the evening before it."""


class Silence(BaseModel):
    """Describes how long the feed may be silent while its exchange is open before people are alerted."""

    model_config = _Model
    minutes: Annotated[int, Field(ge=0)] | None = None
    """Minutes of open session without a message; 0 where silence means nothing. Not given, it is 15, and only for a
    feed that had messages in this session or the one before."""


class Feed(BaseModel):
    """An exchange and asset class: ``asx``, ``hitbtc``, ``sim``.

    ``name`` is the Iceberg namespace and the first part of every asset key.
    """

    model_config = _Model
    name: _Name
    exchange: Annotated[str, Field(min_length=1, max_length=32)]
    mic: Annotated[str | None, Field(pattern=r"^[A-Z0-9]{4}$")] = None
    asset_class: AssetClass
    timezone: Annotated[str, AfterValidator(_known_timezone)]
    calendar: Annotated[str, AfterValidator(_calendar_known)]
    start_date: date
    currency: Annotated[str, Field(min_length=1, max_length=12)]
    owner: Annotated[str, AfterValidator(_owner)] | None = None
    """Owner of the feed: a team, as ``team:market-data``, or an e-mail address."""
    topics: Topics
    sequence: Sequence = Sequence()
    conditions: Conditions = Conditions()
    price: Price = Price()
    ids: Ids = Ids()
    session: FeedSession = FeedSession()
    silence: Silence = Silence()

    @model_validator(mode="after")
    def _topics_differ(self) -> "Feed":
        if self.topics.quotes == self.topics.trades:
            raise ValueError(f"key topics.quotes: {self.topics.quotes} is the topic of its trades too; give it its own")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The exchange's own time zone."""
        return ZoneInfo(self.timezone)

    @property
    def always_open(self) -> bool:
        """Say whether the exchange never closes."""
        return self.calendar == ALWAYS_OPEN


@dataclass(frozen=True)
class RefusedFile:
    """A feed file that declares no feed that can be used.

    Attributes:
        path: The file.
        name: The feed's name as far as it can be known: what the file says, or else the file's own name.
        reason: Which key is wrong, what was found, what was expected and what to do.
    """

    path: str
    name: str
    reason: str

    def __str__(self) -> str:
        """Say it in one line, the file first."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, eq=False)
class DeclaredFeeds(Mapping[str, Feed]):
    """The feeds that can be used, by name, and the files that were refused: a wrong file harms no other feed (#047).

    Attributes:
        feeds: Feeds by name.
        sources: The file that declares each.
        refused: The files that declare none.
    """

    feeds: Mapping[str, Feed]
    sources: Mapping[str, Path]
    refused: tuple[RefusedFile, ...] = ()

    def __getitem__(self, name: str) -> Feed:
        """Give the feed of a name."""
        return self.feeds[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names, in the order of the files."""
        return iter(self.feeds)

    def __len__(self) -> int:
        """Count the feeds that can be used."""
        return len(self.feeds)

    def without(self, reasons: Mapping[str, str]) -> "DeclaredFeeds":
        """Refuse some of the feeds.

        Args:
            reasons: For each feed that is refused why, its key first.
        """
        refused = [RefusedFile(str(self.sources[name]), name, reason) for name, reason in reasons.items()]
        left = {name: feed for name, feed in self.feeds.items() if name not in reasons}
        return replace(self, feeds=left, refused=(*self.refused, *refused))


def parse_feed(text: str, source: str) -> Feed:
    """Read the feed that a TOML text declares.

    Args:
        text: TOML.
        source: Where the text comes from, for the error.

    Raises:
        FeedFileError: Not TOML, an unknown or missing key, or a value out of range; names source and key.
    """
    try:
        return Feed.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise FeedFileError(f"{source}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise FeedFileError(f"{source}: {explain_problems(error)}") from error


def load_feeds(directories: Iterable[Path]) -> DeclaredFeeds:
    """Read all feeds declared in ``*.toml`` of some directories.

    A file that is wrong in itself, or that claims the name or a topic of a feed before it, is refused and harms no
    other. Calendars are not looked up here, which would take half a second: see ``with_calendars``.

    Raises:
        FeedFileError: A directory is absent.
    """
    feeds: dict[str, Feed] = {}
    sources: dict[str, Path] = {}
    refused: list[RefusedFile] = []
    for directory in directories:
        if not directory.is_dir():
            raise FeedFileError(f"{directory}: no such directory of feed files")
        for path in sorted(directory.glob("*.toml")):
            try:
                feed = parse_feed(_text_of(path), str(path))
                _refuse_claims(feed, feeds, sources)
            except FeedFileError as error:
                refused.append(RefusedFile(str(path), _name_in(path), str(error).removeprefix(f"{path}: ")))
            else:
                feeds[feed.name], sources[feed.name] = feed, path
    return DeclaredFeeds(feeds, sources, tuple(refused))


def feed_named(feeds: Mapping[str, Feed], name: str) -> Feed:
    """Give the feed of a name.

    Raises:
        FeedFileError: The file that declares it was refused; says why.
        UnknownFeedError: No file declares it; names those that are.
    """
    if name in feeds:
        return feeds[name]
    refused = feeds.refused if isinstance(feeds, DeclaredFeeds) else ()
    for file in refused:
        if file.name == name:
            raise FeedFileError(str(file))
    others = f". Refused are {'; '.join(map(str, refused))}" if refused else ""
    raise UnknownFeedError(f"no feed {name!r}; those declared are {', '.join(feeds)} (K2_FEEDS_DIR adds more){others}")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or f"not UTF-8 text: {error}"
        raise FeedFileError(f"{path}: can't be read: {reason}") from error


def _refuse_claims(feed: Feed, others: Mapping[str, Feed], sources: Mapping[str, Path]) -> None:
    """Refuse a feed that has the name or the trades topic of another one: the first declaration stands.

    Quotes topics are not looked at, since nothing reads them yet.

    Raises:
        FeedFileError: Without the file's name.
    """
    if feed.name in others:
        raise FeedFileError(f"key name: feed {feed.name!r} is already declared in {sources[feed.name]}")
    for other in others.values():
        if feed.topics.trades == other.topics.trades:
            raise FeedFileError(
                f"key topics.trades: {feed.topics.trades} is already the topic of feed {other.name!r} "
                f"({sources[other.name]}); a topic belongs to one feed"
            )


def _name_in(path: Path) -> str:
    """Give the name that a refused file declares, if it can be read so far; the file's own name if not."""
    try:
        named = tomllib.loads(_text_of(path)).get("name")
    except (FeedFileError, tomllib.TOMLDecodeError):
        named = None
    return named if isinstance(named, str) else path.stem


def _is_calendar(name: str) -> bool:
    """Say whether ``exchange_calendars`` has a calendar; by its files if possible, since importing it is slow."""
    found = find_spec("exchange_calendars")
    directories = [] if found is None else found.submodule_search_locations or []
    module = f"exchange_calendar_{name.lower()}.py"
    by_file = name.isupper() or name == "us_futures"
    if name == "24/5" or (by_file and any((Path(each) / module).is_file() for each in directories)):
        return True
    return name in _calendar_names()


def _like(name: str) -> str:
    return _did_you_mean(get_close_matches(name.upper(), _calendar_names(), n=3))


def _did_you_mean(near: list[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _calendar_names() -> list[str]:
    from exchange_calendars import get_calendar_names

    return list(get_calendar_names())
