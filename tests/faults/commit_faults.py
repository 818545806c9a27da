"""Faults between a commit and its answer, put in front of the real SQL catalog."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import OperationalError

LOST_CONNECTION = OperationalError("UPDATE iceberg_tables", {}, ConnectionError("server closed the connection"))
ALL = 1_000_000


@contextmanager
def commits_become(fault: Callable[[Callable[[], Any]], Any], table: str, times: int = 1) -> Iterator[list[str]]:
    """Have a fault decide about the first commits to a table; it is given the real one. Yields those it decided."""
    real = SqlCatalog.commit_table
    decided: list[str] = []

    def commit_table(self: SqlCatalog, of: Any, requirements: Any, updates: Any) -> Any:
        name = ".".join(of.name())
        if name != table or len(decided) == times or not self.table_exists(of.name()):
            return real(self, of, requirements, updates)
        decided.append(name)
        return fault(lambda: real(self, of, requirements, updates))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqlCatalog, "commit_table", commit_table)
        yield decided


def lands_without_an_answer(commit: Callable[[], Any]) -> Any:
    commit()
    raise LOST_CONNECTION


def never_arrives(commit: Callable[[], Any]) -> Any:
    raise LOST_CONNECTION
