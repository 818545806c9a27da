"""Identifies a catalog's database and a warehouse's location, however their URIs are written."""

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from pyiceberg.io.pyarrow import PyArrowFileIO
from sqlalchemy import URL, Engine, text

_S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})

_POSTGRESQL_IDENTITY = text(
    "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()), current_schema() "
    "FROM pg_control_system()"
)


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite database; None for one in memory and for other databases."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    if url.database.startswith("file:"):
        return Path(unquote(urlparse(url.database).path))
    return Path(url.database)


def same_place(location: str) -> str:
    """Return a location in the one form that all names of its place have: links followed, equal schemes made one."""
    scheme, _, path = PyArrowFileIO.parse_location(location)
    if scheme == "file":
        return f"file:{os.path.realpath(path)}"
    return f"{'s3' if scheme in _S3_SCHEMES else scheme}://{path.rstrip('/')}"


def local_directory(location: str) -> Path | None:
    """Return the directory on this machine that a location names; None where it is not on this machine."""
    scheme, _, path = PyArrowFileIO.parse_location(location)
    return Path(path) if scheme == "file" else None


def identity_of(engine: Engine) -> str:
    """Tell what tells an engine's database from every other one; holds no password.

    SQLite: the file, links followed. PostgreSQL: the server's own number, the database's and the schema, so that a
    server that is reached by another host name is the same one.

    Raises:
        SQLAlchemyError: The database can't be asked.
    """
    backend = engine.url.get_backend_name()
    if backend == "sqlite":
        file = sqlite_file(engine.url)
        return "sqlite::memory:" if file is None else f"sqlite:{os.path.realpath(file)}"
    if backend == "postgresql":
        with engine.connect() as connection:
            server, database, schema = connection.execute(_POSTGRESQL_IDENTITY).one()
        return f"postgresql:{server}/{database}/{schema}"
    return engine.url.set(username=None, password=None, query={}).render_as_string()


def catalog_in_use(identity: str) -> bool | None:
    """Say whether the database of an identity is still there; None where that can't be found out from here."""
    if not identity.startswith("sqlite:/"):
        return None
    return Path(identity.removeprefix("sqlite:")).exists()
