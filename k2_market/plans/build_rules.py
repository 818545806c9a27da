"""Collects the rules that turn a day's raw rows into trades and bars, with a fingerprint that changes when a rule does.

They are those keys of a feed's file that a trade's or bar's value depends on, and the version of K2's own rules. A
built day keeps the rules it was built under until it is rebuilt on purpose: late trades of an old day must not give it
bars of another kind than its neighbours have.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from k2_market.errors import LedgerError
from k2_market.feeds.feed import Feed
from k2_market.plans.day_builds import Builds, DayBuild, outdated_days
from k2_market.quality.finding import MAX_EXAMPLES, Finding, Severity

RULES_PROPERTY = "k2.rules"
"""Property of ``trades``: the rules that its days were built under, as JSON by fingerprint."""

MEANING = 2
"""Version of the rules that are K2's own: which messages make a trade, in which order, and what a bar is. To be raised
whenever the same raw rows under the same feed file give other trades or bars."""

_BUILD_KEYS: Mapping[str, Any] = {
    "timezone": True,
    "calendar": True,
    "conditions": True,
    "price": True,
    "ids": True,
    "session": {"day_starts": True},
}
"""The keys of a feed's file that trades and bars depend on, as pydantic names them."""


@dataclass(frozen=True)
class BuildRules:
    """Holds the rules of a build.

    Attributes:
        meaning: The version of K2's own rules.
        keys: The keys of the feed's file that differ from their defaults, as JSON holds them.
    """

    meaning: int
    keys: Mapping[str, Any]

    @classmethod
    def of(cls, feed: Feed) -> "BuildRules":
        """Take the rules from a feed's file as it is now."""
        keys = feed.model_dump(mode="json", include=dict(_BUILD_KEYS), exclude_defaults=True)
        return cls(MEANING, _sorted({name: value for name, value in keys.items() if value != {}}))

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits, the same for the same rules on any machine."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @property
    def known(self) -> bool:
        """Tell whether this K2 still builds by these rules."""
        return self.meaning == MEANING

    def applied_to(self, feed: Feed) -> Feed:
        """Give a feed as its file was when the rules were taken; other keys are as they are now."""
        others = feed.model_dump(mode="json", exclude=dict(_BUILD_KEYS))
        tables = {name: {**others[name], **value} for name, value in self.keys.items() if name in others}
        return Feed.model_validate({**others, **self.keys, **tables})

    def to_json(self) -> str:
        """Write the rules as text, keys in a fixed order."""
        return json.dumps([self.meaning, self.keys], sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "BuildRules":
        """Read what ``to_json`` wrote.

        Raises:
            LedgerError: The text holds no rules.
        """
        try:
            meaning, keys = json.loads(text)
            return cls(int(meaning), dict(keys))
        except (ValueError, TypeError) as error:
            raise LedgerError(
                f"table property {RULES_PROPERTY} has no rules: {error!r} in {str(text)[:200]!r}"
            ) from error


def rules_of_build(
    current: BuildRules, published: DayBuild | None, kept: Mapping[str, BuildRules], adopt: bool
) -> BuildRules:
    """Choose the rules that a day is built under: those it was built under before, unless it is to adopt the current.

    Args:
        current: Those of the feed's file now.
        published: The day's published build; None if there is none.
        kept: Rules by fingerprint, as the table keeps them.
        adopt: The day is rebuilt on purpose.
    """
    before = None if published is None else kept.get(published.rules)
    return current if adopt or before is None or not before.known else before


def rules_of_days(builds: Builds, current: BuildRules, feed: str) -> Finding:
    """Check that days were built under the current rules.

    Numbers: ``days`` that are built, ``outdated`` ones, and ``current_rules``, the fingerprint. Examples: days with
    theirs.

    Args:
        builds: What each day was made from.
        current: The rules of the feed's file.
        feed: The feed's name, for the advice.
    """
    outdated = outdated_days(builds, current.fingerprint)
    return Finding(
        check="current_rules",
        passed=not outdated,
        severity=Severity.WARN,
        description=f"{len(outdated)} of {len(builds)} days were built under other rules than the feed's file has. "
        + (f"`k2 rebuild --feed {feed}` builds them anew." if outdated else ""),
        numbers={"days": len(builds), "outdated": len(outdated), "current_rules": current.fingerprint},
        examples=tuple({"trade_date": str(day), "rules": builds[day].rules} for day in outdated[:MAX_EXAMPLES]),
        sizes=frozenset({"days"}),
    )


def rules_to_json(rules: Mapping[str, BuildRules]) -> str:
    """Write rules by fingerprint as the text of ``RULES_PROPERTY``."""
    return json.dumps({fingerprint: each.to_json() for fingerprint, each in sorted(rules.items())})


def rules_from_json(text: str) -> dict[str, BuildRules]:
    """Read the text of ``RULES_PROPERTY``.

    Raises:
        LedgerError: The text holds no rules.
    """
    try:
        written = json.loads(text).items()
    except (ValueError, AttributeError) as error:
        raise LedgerError(f"table property {RULES_PROPERTY} has no rules: {error!r} in {str(text)[:200]!r}") from error
    return {fingerprint: BuildRules.from_json(each) for fingerprint, each in written}


def _sorted(value: Any) -> Any:
    """Put lists in order, since a feed's sets of codes come out of pydantic in any."""
    if isinstance(value, dict):
        return {name: _sorted(each) for name, each in value.items()}
    return sorted(value) if isinstance(value, list) else value
