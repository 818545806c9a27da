"""Represents the result of a quality rule for one trading day of one table."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
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
