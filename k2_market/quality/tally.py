"""Adds up a rule's counts over the parts of a day."""

from collections.abc import Mapping
from dataclasses import dataclass

from k2_market.quality.finding import MAX_EXAMPLES, Example


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
