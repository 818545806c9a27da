"""Stores Dagster's events in its usual SQLite files, through connections that stay open (#037).

Dagster opens each file anew for every statement. An event of an asset check takes four such connections, three quarters
of its processor time; a day has 26 events, and a history a thousand days.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import QueuePool

MOST_FILES = 3
"""Files kept open: the index of all events, and those of the runs written or read last."""


class KeptEventStorage(SqliteEventLogStorage):
    """Dagster's own storage but for how it gets at a file; ``dagster.yaml`` names it."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Open the storage in a directory, made if it is not there.

        Args:
            base_dir: Where its files lie.
            inst_data: How ``dagster.yaml`` names it.
        """
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "KeptEventStorage":
        """As Dagster makes it of its settings."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.get(shard)
        if engine is None:
            # One connection, which threads hand on under the lock.
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        while len(self._engines) > MOST_FILES:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def delete_events(self, run_id: str) -> None:
        """Forget a run's events, and remove its file; Dagster would leave an empty one."""
        super().delete_events(run_id)
        kept = self._engines.pop(run_id, None)
        if kept is not None:
            kept.dispose()
        self._initialized_dbs.discard(run_id)
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(self.path_for_shard(run_id) + suffix).unlink(missing_ok=True)

    def wipe(self) -> None:
        """Forget all events; files that are gone are not kept open."""
        self._let_go()
        super().wipe()

    def dispose(self) -> None:
        """Let go of all files."""
        super().dispose()
        self._let_go()

    def _let_go(self) -> None:
        while self._engines:
            self._engines.popitem()[1].dispose()
