"""Writes Dagster's settings into a home and makes its storage, once, before its processes start.

Two processes that meet a storage that is not there yet both make it, and one of them dies of that; a pool whose
limit nobody set lets its first two runs overlap.
"""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from k2_assets.names import family_name
from k2_market.errors import K2Error
from k2_market.feeds.feed import load_feeds
from k2_market.kinds.shipped import KINDS, kinds_of
from k2_resources.files.private_directories import make_private
from k2_resources.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance


_EVENT_STORAGE_CLASS = "module: k2_resources.dagster.kept_event_storage"
_EVENT_STORAGE = f"""
# Added by `k2 up`: where Dagster keeps its events anyway, through connections that are kept.
event_log_storage:
  {_EVENT_STORAGE_CLASS}
  class: KeptEventStorage
  config:
    base_dir: {{base_dir}}
"""
_WORKSPACE = """\
# Written by `k2 up`.
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: k2
"""


class DagsterHomeRefused(K2Error):
    """Dagster's storage can't lie in the directory that it was to lie in."""


@dataclass(frozen=True)
class DagsterHome:
    """Dagster's own directory: its settings, its storage, and where it finds the code server.

    ``environment`` is what every process of Dagster gets on top of ours.
    """

    directory: Path
    code_server_port: int
    environment: Mapping[str, str]

    @property
    def workspace(self) -> Path:
        """The file that tells webserver and daemon where the code server is."""
        return self.directory / "workspace.yaml"

    @property
    def is_written(self) -> bool:
        """Say whether its settings are there and are its own: those of a copied home name the original's events."""
        try:
            settings = (self.directory / "dagster.yaml").read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        return _EVENT_STORAGE_CLASS not in settings or self._events in settings

    def write(self, into: Path | None = None) -> None:
        """Write both files; the settings are the ones that ship, and where events lie, whatever was there.

        Args:
            into: Where they go; into the directory itself unless given.

        Raises:
            DagsterHomeRefused: Dagster's storage can't lie there.
        """
        if "?" in str(self.directory):
            raise DagsterHomeRefused(
                f"dagster: {self.directory}: Dagster's SQLite files can't lie below a path with ?; set K2_HOME to one "
                "without"
            )
        place = self.directory if into is None else into
        make_private(place)
        shipped = files("k2_platform").joinpath("dagster.yaml").read_text(encoding="utf-8")
        (place / "dagster.yaml").write_text(shipped + self._events, encoding="utf-8")
        (place / self.workspace.name).write_text(_WORKSPACE.format(port=self.code_server_port), encoding="utf-8")

    @property
    def _events(self) -> str:
        return _EVENT_STORAGE.format(base_dir=json.dumps(str(self.directory / "history" / "runs")))


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
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
    """Open this home's Dagster instance for reading; None where there is none yet, or Dagster is not installed."""
    if not (settings.dagster_home / "dagster.yaml").exists() or find_spec("dagster") is None:
        yield None
        return
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def pools_of_feeds(settings: Settings) -> tuple[str, ...]:
    """Return the pools in which a feed's runs take turns, for every feed.

    Raises:
        FeedFileError: A feed's file is wrong.
    """
    stages = ("raw", "build", "maintenance")
    return tuple(
        f"{family_name(feed.name, kind)}_{stage}"
        for feed in load_feeds(settings.feed_directories).values()
        for kind in kinds_of(feed, KINDS)
        for stage in stages
    )


if __name__ == "__main__":
    settings = Settings.load()
    with exclusive_lock(settings.dagster_home):
        initialise(settings.dagster_home, pools_of_feeds(settings))
