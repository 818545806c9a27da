"""Remembers which files were verified, so that a later start compares size and modification time alone.

A stamp beside a file or directory says which sha256 it was checked against and how each file looked then.
"""

import hashlib
import json
from pathlib import Path


def is_verified(place: Path, sha256: str) -> bool:
    """Say whether a file or directory was stamped for that sum and looks as it did then."""
    try:
        stamp = json.loads(_stamp_of(place).read_text(encoding="utf-8"))
        return bool(stamp["sha256"] == sha256) and all(
            _look(place.parent / name) == look for name, look in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def mark_verified(place: Path, sha256: str) -> None:
    """Stamp a file, or all files of a directory, whose content was just checked or unpacked."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    looks = {str(path.relative_to(place.parent)): _look(path) for path in files}
    stamp = _stamp_of(place)
    unfinished = stamp.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"sha256": sha256, "files": looks}), encoding="utf-8")
    unfinished.replace(stamp)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp_of(place: Path) -> Path:
    return place.with_name(f".{place.name}.verified.json")


def _look(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
