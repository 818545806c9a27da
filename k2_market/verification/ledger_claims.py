"""Parses the text of a table's ledger for verification, with no code of ``k2_market.ledger``."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from k2_market.errors import LedgerError
from k2_market.verification.offset_accounts import difference, ranges

LEDGER_PROPERTY = "k2.ledger"
_KNOWN_VERSION = 1
_RANGE = re.compile(r"(.+)/([0-9]+)\[([0-9]+),([0-9]+)\)")


@dataclass(frozen=True)
class LedgerClaims:
    """The ledger's own words.

    Attributes:
        covered: Ranges whose messages are said to be rows, or holes.
        lost: Ranges said to have been removed before they were read.
        truncated: Covered ranges said to lie past the end of a log that the broker lost part of.
        set_aside: Ranges said to have been set aside: of dead letters where they are covered, without a row elsewhere.
        topic_names: Name of each topic id.
        messages: How many rows there should be.
        holes: How many covered offsets should have no row.
        dead_letters: How many of the rows should be dead letters.
        batch_id: The last commit's.
    """

    covered: pl.DataFrame
    lost: pl.DataFrame
    truncated: pl.DataFrame
    topic_names: Mapping[str, str]
    messages: int = 0
    holes: int = 0
    dead_letters: int = 0
    batch_id: str = ""
    set_aside: pl.DataFrame = field(default_factory=lambda: ranges([]))

    @property
    def unread(self) -> pl.DataFrame:
        """Give the ranges said to have been set aside without a row."""
        return difference(self.set_aside, self.covered)


def ledger_claims(text: str | None) -> LedgerClaims:
    """Return the claims of a ledger's text; of none, where a table has no ledger yet.

    Raises:
        LedgerError: It is no ledger, or of an unknown version.
    """
    if text is None:
        return LedgerClaims(ranges([]), ranges([]), ranges([]), {})
    try:
        content = json.loads(text)
        if content["version"] != _KNOWN_VERSION:
            raise LedgerError(f"the ledger is of version {content['version']}; verification knows {_KNOWN_VERSION}")
        topics: dict[str, Any] = content["topics"]
        return LedgerClaims(
            covered=ranges(_spans(topics, "partitions")),
            lost=ranges(_spans(topics, "lost")),
            truncated=ranges(_spans(topics, "truncated")),
            topic_names={topic_id: str(topic["name"]) for topic_id, topic in topics.items()},
            messages=int(content["messages"]),
            holes=int(content["holes"]),
            dead_letters=int(content["dead_letters"]),
            batch_id=str(content["batch_id"]),
            set_aside=ranges(_spans(topics, "set_aside")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LedgerError(f"table property {LEDGER_PROPERTY} is no ledger: {error!r} in {text[:200]!r}") from error


def parse_ranges(text: str) -> pl.DataFrame:
    """Return the ranges in the text of a snapshot's summary, with spaces between them.

    Raises:
        LedgerError: One of them is no range.
    """
    return ranges(_parsed(text.split()))


def _parsed(each_text: Iterable[str]) -> Iterator[tuple[str, int, int, int]]:
    for text in each_text:
        found = _RANGE.fullmatch(text)
        if found is None or int(found[3]) >= int(found[4]):
            raise LedgerError(f"{text!r} is no offset range; expected topic-id/partition[start,end)")
        yield found[1], int(found[2]), int(found[3]), int(found[4])


def _spans(topics: Mapping[str, Any], account: str) -> Iterator[tuple[str, int, int, int]]:
    for topic_id, topic in topics.items():
        for partition, spans in topic.get(account, {}).items():
            for start, end in spans:
                if not 0 <= start < end:
                    raise ValueError(f"[{start}, {end}) of {topic_id}/{partition}")
                yield topic_id, int(partition), start, end
