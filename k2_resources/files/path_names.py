"""Names files and directories of this machine for SQLAlchemy and Iceberg, whatever characters their paths have."""

from pathlib import Path
from urllib.parse import quote, urlparse


def sqlite_uri(file: Path) -> str:
    """Name a SQLite file as SQLAlchemy does.

    A ``?`` would begin the URL's query, so such a path is given as SQLite's own URI, in which it is quoted.
    """
    if "?" not in str(file):
        return f"sqlite:///{file}"
    return f"sqlite:///file:{quote(str(file))}?uri=true"


def directory_location(directory: Path) -> str:
    """Name a directory as Iceberg's tables and their readers do.

    They take the path out of a ``file://`` location as it stands, and end it at ``#`` or ``?``; so a path with these,
    or with what is dropped from a URI, is its own name.
    """
    location = f"file://{directory}"
    return location if urlparse(location).path == str(directory) else str(directory)
