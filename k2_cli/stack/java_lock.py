"""Reads the lock file of Java archives: each pinned by version, size and sha256."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from k2_market.errors import K2Error

LOCK_FILE = Path(str(files("k2_cli.stack") / "files" / "jars.lock.json"))


class JavaArtifactError(K2Error):
    """A Java program of the local stack can't be had: no network, no space, not served, or not what was pinned."""


@dataclass(frozen=True)
class Artifact:
    """One file of a Maven repository, pinned: coordinates, ``bytes`` in size and ``sha256`` of its content."""

    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str
    bytes: int
    sha256: str

    @property
    def coordinates(self) -> str:
        """Tell how Maven names it."""
        parts = [self.group, self.artifact, self.version, self.classifier, self.packaging]
        return ":".join(part for part in parts if part)

    @property
    def file_name(self) -> str:
        """Its file's name, unlike any other artifact's."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.{self.packaging}"


def read_lock(path: Path = LOCK_FILE) -> dict[str, tuple[Artifact, ...]]:
    """Return the pinned artifacts of each program.

    Raises:
        JavaArtifactError: The file is absent or no lock.
    """
    try:
        programs = json.loads(path.read_text(encoding="utf-8"))
        return {name: tuple(Artifact(**entry) for entry in entries) for name, entries in programs.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise JavaArtifactError(f"{path}: can't be read as a lock of Java archives: {error}") from error
