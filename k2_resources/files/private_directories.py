"""Makes directories that only their owner may read."""

from itertools import takewhile
from pathlib import Path


def make_private(directory: Path) -> None:
    """Make a directory with mode 0700, and those above it that are not there; one that is there stays as it is.

    Raises:
        OSError: It can't be made, or something else has its name.
    """
    missing = list(takewhile(lambda each: not each.exists(), (directory, *directory.parents)))
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(exist_ok=True)
