"""A table's files in the simulated warehouse, as the orphan cleaner lists and deletes them, with simulated times."""

from datetime import datetime, timedelta
from typing import Any

from pyiceberg.table import Table
from simulated_messages import EPOCH

from k2_market.plans.orphan_files import StoredFile


class SimulatedStorage:
    """Stands in for ``table_storage.TableStorage``: listing, deleting and writing are steps of their own."""

    def __init__(self, table: Table) -> None:
        self._files: Any = table.io
        self._root = f"{table.location()}/"

    def path_of(self, location: str) -> str | None:
        return location.removeprefix(self._root) if location.startswith(self._root) else None

    def encloses(self, location: str) -> bool:
        return f"{location}/".startswith(self._root)

    def files(self) -> tuple[StoredFile, ...]:
        self._files.turns.step("lists the files")
        return tuple(
            StoredFile(path, self._files.size(location), _moment(self._files.written.get(location, 0.0)))
            for location in self._files.content
            if (path := self.path_of(location)) is not None
        )

    def exists(self, path: str) -> bool:
        return f"{self._root}{path}" in self._files.content

    def now(self) -> datetime:
        return _moment(self._files.turns.now)

    def read(self, path: str) -> str:
        content = self._files.content.get(f"{self._root}{path}", b"")
        return str(content.decode())

    def write(self, path: str, text: str) -> None:
        self._files.turns.step(f"writes {path}")
        self._files.content[f"{self._root}{path}"] = text.encode()

    def delete(self, path: str) -> None:
        self._files.turns.step(f"deletes {path}")
        self._files.content.pop(f"{self._root}{path}", None)


def _moment(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)
