"""A disk that a test can fill: a small tmpfs, mounted where something is to be written."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_FILLER = ".filler"
_PIECE = b"\0" * 4096


@contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Path]:
    """A directory on a disk of its own; the test is skipped where mounting is not allowed."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(directory)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a disk that can be filled needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path, leave_bytes: int = 0) -> None:
    """Leave no space but some bytes."""
    filler = disk / _FILLER
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(_PIECE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        if leave_bytes:
            file.truncate(max(0, filler.stat().st_size - leave_bytes))


def free(disk: Path) -> None:
    """Give the space back."""
    (disk / _FILLER).unlink(missing_ok=True)
