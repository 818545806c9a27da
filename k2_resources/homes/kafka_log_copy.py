"""Copies a Kafka broker's data directory while the broker runs, so that another broker can be started on the copy.

What the broker had written when the copying began is in the copy, whole. A log's last segment is copied as far as it
goes, perhaps within a batch; the broker that is started on the copy finds its end, as after an outage. Segments before
the last are never written again, so they come with their indexes, and the copy says that they need not be gone through.

Partitions come before the cluster's own log, which says which topics there are: of a topic deleted meanwhile nothing is
left, and one created meanwhile is empty. What the broker knows of transactions comes before the partitions, so that it
never takes for finished what has no marker in them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from k2_market.homes.backup_manifest import BackupError
from k2_resources.files.file_copy import CopiedFiles

_CLUSTER = "__cluster_metadata-0"
_TRANSACTIONS = "__transaction_state-"
_PARTITION = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)-(?P<number>\d+)")
_SEGMENT = re.compile(r"(?P<offset>\d{20})\.log")
_OF_SEGMENT = (".index", ".timeindex", ".txnindex", ".snapshot")
"""Files beside a segment, by its first offset. Those of the last segment are left out: the broker makes them anew."""

_LEFT_AS_THEY_ARE = ("meta.properties", "bootstrap.checkpoint", "log-start-offset-checkpoint")
_MOST_TIMES = 20


@dataclass(frozen=True)
class _Version:
    """A file as it was found: another one may take its place under the same name."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> "_Version":
        found = path.stat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def copy_kafka(data: Path, copied: CopiedFiles, below: str) -> None:
    """Copy a broker's data directory.

    Args:
        data: The directory, as ``log.dirs`` names it.
        copied: Where the copies go.
        below: The directory within it.

    Raises:
        BackupError: Files come and go so quickly that no whole copy was had; or there is no room.
    """
    partitions = sorted(
        (each.name for each in data.iterdir() if each.is_dir() and _PARTITION.fullmatch(each.name)),
        key=lambda name: (not name.startswith(_TRANSACTIONS), name),
    )
    recovery = {}
    for name in partitions:
        if name != _CLUSTER:
            last = _copy_log(data / name, copied, f"{below}/{name}", _files_of_partition)
            if last is not None:
                recovery[name] = last
    copied.write(f"{below}/recovery-point-offset-checkpoint", _checkpoint(recovery).encode())
    _copy_log(data / _CLUSTER, copied, f"{below}/{_CLUSTER}", _files_of_cluster)
    for name in _LEFT_AS_THEY_ARE:
        if (data / name).exists():
            copied.copy(data / name, f"{below}/{name}")


_Choice = Callable[[Path, list[int]], list[str]]
"""Names of the files to copy beside a log's segments, of a directory with segments from these offsets on."""


def _copy_log(log: Path, copied: CopiedFiles, below: str, others: _Choice) -> int | None:
    """Copy a log's directory; the first offset of its last segment, or None if the log is gone."""
    seen: dict[str, _Version] = {}
    for _ in range(_MOST_TIMES):
        try:
            offsets = _segments(log)
            wanted = [*map(_segment, offsets), *others(log, offsets)]
            for name in sorted(set(seen) - set(wanted)):
                copied.remove(f"{below}/{name}")  # removed by retention, or rewritten, since it was copied
                del seen[name]
            for name in wanted:
                version = _Version.of(log / name)
                if seen.get(name) != version:
                    copied.copy(log / name, f"{below}/{name}")
                    seen[name] = version
            if _segments(log)[: len(offsets)] == offsets:
                return offsets[-1]
        except (FileNotFoundError, IndexError):
            if not log.exists():
                for name in seen:
                    copied.remove(f"{below}/{name}")
                return None
    raise BackupError(f"{log}: segments are removed faster than they can be copied; try again when less is going on")


def _files_of_partition(log: Path, offsets: list[int]) -> list[str]:
    """Return the topic's id, the terms of its leaders, and what lies beside the segments before the last."""
    names = {each.name for each in log.iterdir()}
    beside = [f"{offset:020d}{kind}" for offset in offsets[:-1] for kind in _OF_SEGMENT]
    # A snapshot of what is known of producers is taken where a segment begins.
    beside.append(f"{offsets[-1]:020d}.snapshot")
    return [name for name in (*beside, "leader-epoch-checkpoint", "partition.metadata") if name in names]


def _files_of_cluster(log: Path, _: list[int]) -> list[str]:
    """Return the states of the cluster's log that were written down, and who leads it."""
    snapshots = sorted(each.name for each in log.iterdir() if each.suffix == ".checkpoint")
    return [*snapshots, *(name for name in ("quorum-state", "partition.metadata") if (log / name).exists())]


def _segments(log: Path) -> list[int]:
    """Return the first offsets of a log's segments, in order.

    Raises:
        IndexError: It has none, as one that is being created or deleted.
    """
    found = sorted(int(match["offset"]) for each in log.iterdir() if (match := _SEGMENT.fullmatch(each.name)))
    if not found:
        raise IndexError(f"{log} has no segment")
    return found


def _segment(offset: int) -> str:
    return f"{offset:020d}.log"


def _checkpoint(recovery: dict[str, int]) -> str:
    """Tell what a broker reads to know from where on it has to go through each log after an outage."""
    lines: Iterable[str] = (
        f"{match['topic']} {match['number']} {offset}"
        for name, offset in sorted(recovery.items())
        if (match := _PARTITION.fullmatch(name))
    )
    return "\n".join(["0", str(len(recovery)), *lines, ""])
