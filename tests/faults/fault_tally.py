"""What the fault suite has tried so far; its last lines say it."""

from dataclasses import dataclass, field


@dataclass
class FaultTally:
    """Counts over a session.

    Attributes:
        seed: What the session's random choices come from.
        faults: Faults injected, by their names in the catalogue or in words.
        simulated_seeds: Simulated schedules run.
        produced: Messages acknowledged by real brokers and simulated ones.
        lost: Of these, messages that are nowhere in the table.
        doubled: Messages that are in the table more than once.
    """

    seed: int
    faults: set[str] = field(default_factory=set)
    injections: int = 0
    simulated_seeds: int = 0
    produced: int = 0
    lost: int = 0
    doubled: int = 0

    def injected(self, *names: str) -> None:
        """Count a fault that was injected, under each of its names."""
        self.faults.update(names)
        self.injections += 1

    def lines(self) -> list[str]:
        """The session's summary."""
        return [
            f"seed {self.seed}: {self.injections:,} faults injected, of {len(self.faults)} kinds; "
            f"{self.simulated_seeds:,} simulated schedules",
            f"messages produced {self.produced:,}, lost {self.lost:,}, doubled {self.doubled:,}",
        ]
