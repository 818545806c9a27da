"""Fingerprints feed files, to tell when they differ from those that a process was started with."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

Contents = Mapping[str, str]
"""A fingerprint of each feed file's bytes, by path; empty for a file that can't be read."""


def contents_of(directories: Iterable[Path]) -> dict[str, str]:
    """Take the fingerprints of all ``*.toml`` in some directories; a directory that is absent holds none."""
    return {str(path): _fingerprint(path) for directory in directories for path in sorted(directory.glob("*.toml"))}


def changes_between(before: Contents, after: Contents) -> tuple[str, ...]:
    """Name the files that were added, changed or removed, as ``us.toml was added``."""
    paths = sorted(before.keys() | after.keys())
    return tuple(
        f"{Path(path).name} was {_change(path, before, after)}" for path in paths if before.get(path) != after.get(path)
    )


def _change(path: str, before: Contents, after: Contents) -> str:
    if path not in before:
        return "added"
    return "removed" if path not in after else "changed"


def _fingerprint(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
