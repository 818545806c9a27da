"""Opens DuckDB connections: in UTC, of bounded memory, and closed to everything but given tables."""

import sys
import uuid
from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path

import duckdb

from k2_market.errors import K2Error
from k2_resources.files.private_directories import make_private

MEMORY_LIMIT = "2GB"
"""Limit of DuckDB's buffers; a query that needs more spills to disk. A laptop of 8 GB runs Kafka beside it."""

CONNECTION_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # Without this a name in SQL may reach a variable of the Python program.
    "python_enable_replacements": False,
}
"""Settings with which every connection is opened."""

_EXTENSIONS = ("avro", "iceberg")
"""In the order in which they need each other."""


class DuckDBExtensionError(K2Error):
    """DuckDB's Iceberg extension is not there or can't be loaded."""


def open_connection(spill_directory: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection that can read Iceberg tables.

    Args:
        spill_directory: Where what does not fit into memory goes while the connection is open.

    Raises:
        DuckDBExtensionError: The Iceberg extension is missing.
    """
    connection = duckdb.connect(":memory:", config=CONNECTION_CONFIG)
    try:
        make_ready(connection, spill_directory)
    except BaseException:
        connection.close()
        raise
    return connection


def make_ready(connection: duckdb.DuckDBPyConnection, spill_directory: Path) -> None:
    """Give a newly opened connection UTC, the Iceberg extension and a place to spill to.

    Raises:
        DuckDBExtensionError: The Iceberg extension is missing.
    """
    # In another zone a timestamp's date would be another day.
    connection.execute("SET TimeZone = 'UTC'")
    make_private(spill_directory)
    # Each connection has a directory of its own, which DuckDB makes when needed and removes when it closes.
    own = spill_directory / f"duckdb-{uuid.uuid4().hex}"
    connection.execute(f"SET temp_directory = {literal(str(own))}")
    for extension in _EXTENSIONS:
        _load(connection, extension)


def seal(connection: duckdb.DuckDBPyConnection, readable: Iterable[str]) -> None:
    """Close a connection to all files and the network but some directories, for good.

    Args:
        connection: Any connection; its settings can't be changed any more afterwards.
        readable: Locations (``file:///…`` or another URI) whose files stay in reach. In reach means for reading and
            for writing: statements from outside go through ``reading_statement``.
    """
    directories = ", ".join(literal(location.removeprefix("file://")) for location in sorted(set(readable)))
    connection.execute(f"SET allowed_directories = [{directories}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def literal(text: str) -> str:
    """Return a text as a SQL string, where a value can't be bound."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _load(connection: duckdb.DuckDBPyConnection, extension: str) -> None:
    package = f"duckdb_extension_{extension}"
    inside = f"extensions/v{duckdb.__version__}/{extension}.duckdb_extension"
    try:
        # DuckDB checks the file's signature. Nothing is fetched: the file came with the Python packages.
        with as_file(files(package) / inside) as path:
            connection.execute(f"LOAD {literal(str(path))}")
    except ModuleNotFoundError:
        _load_installed(connection, extension)
    except duckdb.Error as error:
        raise DuckDBExtensionError(
            f"DuckDB {duckdb.__version__} can't load its {extension} extension from {package}/{inside}: {error}. "
            f"Install {package.replace('_', '-')}=={duckdb.__version__}."
        ) from error


def _load_installed(connection: duckdb.DuckDBPyConnection, extension: str) -> None:
    """Load an extension that DuckDB's own ``INSTALL`` put there; some platforms have no package of it."""
    try:
        connection.load_extension(extension)
    except duckdb.Error as error:
        raise DuckDBExtensionError(
            f"DuckDB's {extension} extension is not installed. Run once: "
            f"{sys.executable} -c \"import duckdb; duckdb.connect().install_extension('{extension}')\""
        ) from error
