"""Which faults a schedule has, how often, and which of them came to pass."""

from collections import Counter
from collections.abc import Mapping
from random import Random

FAULTS: Mapping[str, tuple[str, ...]] = {
    "writer killed": ("K1", "K2", "K3"),
    "zombie writer": ("K7",),
    "daemon killed": ("G1",),
    "two daemons": ("G3",),
    "two writers on one range": ("C5", "G11"),
    "request delivered twice": ("run delivered twice",),
    "requests out of order": ("runs out of order",),
    "catalog down": ("C1",),
    "commit landed, answer lost": ("C3",),
    "error before the commit": ("C4",),
    "commit landed late": ("commit that lands after its writer gave up",),
    "another committer in between": ("C6",),
    "table rolled back": ("C10",),
    "table dropped": ("table dropped, to be read anew",),
    "broker down": ("B1",),
    "aborted transaction": ("B5",),
    "transaction left open": ("B6",),
    "retention": ("B7",),
    "topic recreated": ("B8", "B9"),
    "partitions added": ("B10",),
    "log truncated": ("B11",),
    "poison message": ("M1", "M2", "M3", "M4", "M6"),
    "harmful message": ("message that fails, hangs or kills its run",),
    "registry down": ("S1",),
    "run told what is not so": ("W2",),
}
"""Every kind of fault, and what the catalogue of faults calls it, where it has it."""


class Weather:
    """Faults that come at random, by the odds of a schedule, until it calms down.

    Attributes:
        odds: For each kind of fault that this schedule has, the chance that it comes where it can.
        came: How often each came.
    """

    def __init__(self, random: Random, odds: Mapping[str, float]) -> None:
        self._random = random
        self.odds = dict(odds)
        self.came: Counter[str] = Counter()

    def brings(self, fault: str) -> bool:
        """Whether a fault comes now, where it can."""
        comes = self._random.random() < self.odds.get(fault, 0.0)
        if comes:
            self.bring(fault)
        return comes

    def bring(self, fault: str) -> None:
        """Note that a fault has come."""
        self.came[fault] += 1

    def calm_down(self) -> None:
        """No more faults."""
        self.odds = {}
