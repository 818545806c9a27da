"""Shares one client a service within a process: a catalog brings a connection pool, a Kafka client its threads.

A process that was forked from another makes its own, since neither survives a fork. A catalog whose SQLite file is
another one by now, as after a restore, is opened anew.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar, cast

from sqlalchemy import make_url

from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.catalog_identity import sqlite_file
from k2_resources.iceberg.owned_catalog import OwnedCatalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topics import KafkaTopics

MOST_CLIENTS = 8
"""Clients of one kind that are kept; a process has one service of a kind, tests have some."""

_T = TypeVar("_T")


@dataclass
class _Kept:
    """Keeps the clients of one kind that were used last."""

    end: Callable[[object], None]
    _clients: OrderedDict[Hashable, object] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)
    _process: int = 0

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Give the client of a key, made if there is none yet in this process."""
        with self._lock:
            if self._process != os.getpid():
                self._process, self._clients = os.getpid(), OrderedDict()
            if key not in self._clients:
                self._clients[key] = make()
            self._clients.move_to_end(key)
            while len(self._clients) > MOST_CLIENTS:
                self.end(self._clients.popitem(last=False)[1])
            return cast("_T", self._clients[key])


def _dispose(catalog: object) -> None:
    cast("OwnedCatalog", catalog).engine.dispose()


_catalogs = _Kept(_dispose)
_topics = _Kept(lambda _: None)
_registries = _Kept(lambda _: None)


def shared_catalog(uri: str, warehouse: str) -> OwnedCatalog:
    """Give this process's catalog behind a URI; raises like ``open_catalog``."""
    file = _identity(uri)
    if file is None:
        open_catalog(uri, warehouse).engine.dispose()  # makes the file
        file = _identity(uri)
    return _catalogs.get((uri, warehouse, file), lambda: open_catalog(uri, warehouse))


def shared_topics(bootstrap_servers: str) -> KafkaTopics:
    """Give this process's client that asks a cluster about its topics."""
    return _topics.get(bootstrap_servers, lambda: KafkaTopics(bootstrap_servers))


def shared_registry(url: str) -> SchemaRegistry:
    """Give this process's client of a schema registry."""
    return _registries.get(url, lambda: SchemaRegistry(url))


def _identity(uri: str) -> tuple[int, int] | None:
    """Tell a SQLite file from another one that took its place; None where there is none (yet), zeros for a server."""
    try:
        file = sqlite_file(make_url(uri))
    except Exception:  # whatever is wrong with the URI, opening it says so in words
        return None
    if file is None:
        return (0, 0)
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
