"""Runs the statements of ``quality/sql`` over Arrow tables, in this process and with nothing else in reach."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import duckdb
import pyarrow as pa

_ALONE: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""No files, no network, no extensions, so no time zones either: a statement sees the tables it is given."""


def run_statement(name: str, tables: Mapping[str, pa.Table], parameters: Mapping[str, object]) -> pa.Table:
    """Return the rows that a statement makes of some tables.

    Args:
        name: The statement's file in ``k2_market/quality/sql``, without ``.sql``.
        tables: Arrow tables by the name that the statement uses; read in place, not copied.
        parameters: Values for the statement's ``$name`` parameters.

    Returns:
        The statement's columns and rows, in its own order.
    """
    with _database().cursor() as connection:
        for table_name, table in tables.items():
            connection.register(table_name, table)
        return connection.execute(_statement(name), dict(parameters)).to_arrow_table()


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """Open one database for all statements, since that costs more than most; a cursor sees its own tables alone."""
    return duckdb.connect(":memory:", config=_ALONE)


@cache
def _statement(name: str) -> str:
    return (files("k2_market.quality.sql") / f"{name}.sql").read_text(encoding="utf-8")
