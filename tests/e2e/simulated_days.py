"""What the end-to-end tests' stack was given to take in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SimulatedDays:
    """What was sent.

    Attributes:
        days: Three trading days, the first with faults in it.
        planted: How many trades or messages have a fault, by kind.
    """

    days: tuple[str, str, str]
    planted: dict[str, int]

    @property
    def faulty(self) -> str:
        """The day with faults in it."""
        return self.days[0]
