"""Dagster's storage, made ready once before its processes start.

Two processes that meet a storage that is not there yet both make it, and one of them dies of that; a pool whose
limit nobody set lets its first two runs overlap.
"""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from k2_market.feed import load_feeds
from k2_resources.private_directories import make_private
from k2_resources.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other process makes this Dagster home ready, and keep others waiting for as long as the block is.

    The system lets go of it when the process ends, however it ends.
    """
    make_private(directory)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def initialise(directory: Path, pools: Iterable[str]) -> None:
    """Make the storage that the ``dagster.yaml`` of a directory names, and give each pool one slot."""
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(directory)) as instance:
        for pool in pools:
            instance.event_log_storage.set_concurrency_slots(pool, 1)


@contextmanager
def existing_instance(settings: Settings) -> "Iterator[DagsterInstance | None]":
    """Open this home's Dagster instance for reading; None where there is none yet, and none is made."""
    from dagster import DagsterInstance

    if not (settings.dagster_home / "dagster.yaml").exists():
        yield None
        return
    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def pools_of_feeds(settings: Settings) -> tuple[str, ...]:
    """The pools in which a feed's runs take turns, for every feed.

    Raises:
        FeedFileError: A feed's file is wrong.
    """
    stages = ("raw", "build", "maintenance")
    return tuple(f"{feed}_{stage}" for feed in load_feeds(settings.feed_directories) for stage in stages)


if __name__ == "__main__":
    settings = Settings.load()
    with alone_in(settings.dagster_home):
        initialise(settings.dagster_home, pools_of_feeds(settings))
