"""Represents the result of a quality rule for one trading day of one table."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

MAX_EXAMPLES = 20
"""Rows a finding shows of what it found; its numbers count the rest."""

Example = Mapping[str, str | int]
"""One row that a rule objects to, as columns and plain values."""


class Severity(StrEnum):
    """Tells what a failed rule means for the bars of that day."""

    ERROR = "error"
    """They would be wrong: the day is not built or published, its last good version stays."""

    WARN = "warn"
    """They are as the trades say, and the trades are doubtful."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule on one day.

    Attributes:
        check: The rule's name, which is the asset check's name too.
        passed: Whether the rule holds.
        severity: What it means when it does not.
        description: One sentence for a person.
        numbers: What was counted, by name; each becomes metadata of the check.
        examples: Rows that the rule objects to, in a stable order.
        sizes: Those of the numbers that only say how much was looked at. They grow while a day goes on, which makes
            no other finding of it.
    """

    check: str
    passed: bool
    severity: Severity
    description: str
    numbers: Mapping[str, int | float | str]
    examples: tuple[Example, ...] = ()
    sizes: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """A digest of check, numbers (but ``sizes``) and examples: the same finding again has the same one.

        It does not depend on the order of keys, the process or the machine.
        """
        numbers = {name: number for name, number in self.numbers.items() if name not in self.sizes}
        content = [self.check, numbers, [dict(example) for example in self.examples]]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def findings_of_session(session: date, by_date: Mapping[date, Sequence[Finding]]) -> tuple[Finding, ...]:
    """Join what the same rules found on the dates of one session into one finding a rule.

    Numbers that are whole add up, others are those of the last date; examples and failures name their date.

    Args:
        session: The trading day.
        by_date: For each of its dates, in order, the findings of the same rules in the same order.
    """
    if list(by_date) == [session]:
        return tuple(by_date[session])
    return tuple(_joined(dict(zip(by_date, of_rule, strict=True))) for of_rule in zip(*by_date.values(), strict=True))


def _joined(by_date: Mapping[date, Finding]) -> Finding:
    last = list(by_date.values())[-1]
    failed = {day: each for day, each in by_date.items() if not each.passed}
    numbers = dict(last.numbers)
    for name in numbers:
        values = [each.numbers.get(name, 0) for each in by_date.values()]
        if all(isinstance(value, int) for value in values):
            numbers[name] = sum(int(value) for value in values)
    examples = tuple({"trade_date": str(day), **row} for day, each in by_date.items() for row in each.examples)
    worst = Severity.ERROR if any(each.severity is Severity.ERROR for each in failed.values()) else Severity.WARN
    return replace(
        last,
        passed=not failed,
        severity=worst if failed else last.severity,
        description=" ".join(f"{day}: {each.description}" for day, each in (failed or by_date).items()),
        numbers=numbers,
        examples=examples[:MAX_EXAMPLES],
    )


@dataclass(frozen=True)
class Tally:
    """Counts and examples of a part of a day.

    Attributes:
        numbers: What was counted, by name.
        examples: Rows that the rule objects to, in groups: those of the first group are shown before all others.
    """

    numbers: Mapping[str, int]
    examples: tuple[tuple[Example, ...], ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            {name: number + other.numbers[name] for name, number in self.numbers.items()},
            tuple((*own, *more)[:MAX_EXAMPLES] for own, more in zip(self.examples, other.examples, strict=True)),
        )

    @property
    def shown(self) -> tuple[Example, ...]:
        """The examples that a finding shows."""
        return tuple(example for group in self.examples for example in group)[:MAX_EXAMPLES]
