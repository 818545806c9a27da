"""A feed: an exchange and asset class, declared in one TOML file and nowhere else."""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from k2_market.errors import FeedFileError, UnknownFeedError


class AssetClass(StrEnum):
    """What a feed's instruments are."""

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
        raise ValueError(f"{name!r} is not a time zone of the IANA database")
    return name


RESERVED_NAMES = frozenset({"all_feeds", "main", "information_schema", "pg_catalog"})
"""Names of schemas that SQL has already."""


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is a name that SQL has already; choose another")
    return name


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
    """How far the feed's sequence numbers can prove that nothing is missing (#011)."""

    model_config = _Model
    scope: SequenceScope = SequenceScope.NONE


class Conditions(BaseModel):
    """The feed's conditions profile (FIX tag 277): which codes keep a trade out of prices or of volume.

    A trade with several conditions is eligible only if all of them allow it.
    """

    model_config = _Model
    no_price: frozenset[str] = frozenset()
    no_volume: frozenset[str] = frozenset()


class SessionTolerance(BaseModel):
    """Minutes around the calendar's session in which eligible trades are expected: auctions, mostly."""

    model_config = _Model
    minutes_before: Annotated[int, Field(ge=0)] = 1
    minutes_after: Annotated[int, Field(ge=0)] = 1


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
    calendar: str
    start_date: date
    currency: Annotated[str, Field(min_length=1, max_length=12)]
    topics: Topics
    sequence: Sequence = Sequence()
    conditions: Conditions = Conditions()
    session: SessionTolerance = SessionTolerance()

    @model_validator(mode="after")
    def _calendar_exists(self) -> "Feed":
        if self.calendar != "24/7" and not _is_calendar(self.calendar):
            raise ValueError(f"calendar {self.calendar!r} is neither '24/7' nor a name of exchange_calendars")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The exchange's own time zone."""
        return ZoneInfo(self.timezone)

    @property
    def always_open(self) -> bool:
        """Whether the exchange never closes."""
        return self.calendar == "24/7"


def parse_feed(text: str, source: str) -> Feed:
    """The feed that a TOML text declares.

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
        wrong = "; ".join(
            f"key {'.'.join(map(str, problem['loc'])) or '(whole file)'}: {problem['msg']}"
            + (f" (found {problem['input']!r})" if problem["type"] not in ("missing", "value_error") else "")
            for problem in error.errors()
        )
        raise FeedFileError(f"{source}: {wrong}") from error


def load_feeds(directories: Iterable[Path]) -> dict[str, Feed]:
    """All feeds declared in ``*.toml`` of some directories, by name.

    Raises:
        FeedFileError: A file is wrong, a directory is absent, or two files declare the same name.
    """
    feeds: dict[str, Feed] = {}
    sources: dict[str, Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise FeedFileError(f"{directory}: no such directory of feed files")
        for path in sorted(directory.glob("*.toml")):
            feed = parse_feed(path.read_text(encoding="utf-8"), str(path))
            if feed.name in feeds:
                raise FeedFileError(f"{path}: key name: feed {feed.name!r} is already declared in {sources[feed.name]}")
            feeds[feed.name], sources[feed.name] = feed, path
    return feeds


def feed_named(feeds: Mapping[str, Feed], name: str) -> Feed:
    """The feed of a name.

    Raises:
        UnknownFeedError: No file declares it; names those that are.
    """
    if name not in feeds:
        raise UnknownFeedError(f"no feed {name!r}; those declared are {', '.join(feeds)} (K2_FEEDS_DIR adds more)")
    return feeds[name]


def _is_calendar(name: str) -> bool:
    """Whether ``exchange_calendars`` has a calendar; told from its files if possible, since importing it is slow."""
    found = find_spec("exchange_calendars")
    directories = [] if found is None else found.submodule_search_locations or []
    module = f"exchange_calendar_{name.lower()}.py"
    if name.isupper() and any((Path(each) / module).is_file() for each in directories):
        return True
    from exchange_calendars import get_calendar_names

    return name in get_calendar_names()
