"""Translates errors of catalog and warehouse into K2's, which name the table, the operation and a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.exceptions import RESTError, ValidationError, WaitingForLockException
from requests import RequestException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from k2_market.errors import K2Error


class CatalogUnavailable(K2Error):
    """The Iceberg catalog can't be reached, opened or written."""


class WarehouseUnavailable(K2Error):
    """A file of a table can't be read or written."""


@contextmanager
def translate_errors(table: str, doing: str) -> Iterator[None]:
    """Have what the catalog's database and the file system raise say which table it is about.

    Args:
        table: The table, as ``asx.trades``.
        doing: What is being done with it.

    Raises:
        CatalogUnavailable: In place of an error of the catalog's database or service.
        WarehouseUnavailable: In place of a file system's error.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise CatalogUnavailable(
            f"Iceberg catalog, {doing} {table}: {database_message(error)}. Is the catalog's database up, and does "
            "another process hold its lock?"
        ) from error
    except (RESTError, WaitingForLockException, RequestException) as error:
        raise CatalogUnavailable(
            f"Iceberg catalog, {doing} {table}: {type(error).__name__}: {error}. Does the catalog's service answer, "
            "and does it know who asks?"
        ) from error
    except FileNotFoundError as error:
        raise WarehouseUnavailable(
            f"{doing} {table}: {error}. The catalog or the table's metadata names a file that is not there: is the "
            "warehouse mounted, was this home moved (then `k2 relocate`), was the catalog restored from an old backup, "
            "or were files deleted by hand?"
        ) from error
    except ValidationError as error:
        raise WarehouseUnavailable(
            f"{doing} {table}: its metadata file is not one: {error}. Was it cut short by an outage? Register the one "
            "before it in the catalog, and what came since is read again"
        ) from error
    except OSError as error:
        raise WarehouseUnavailable(
            f"{doing} {table}: {error}. Is the warehouse's disk full, or not writable? What was not committed is done "
            "again by the next attempt"
        ) from error


def database_message(error: SQLAlchemyError) -> str:
    """Return the database's own words, without SQLAlchemy's around them."""
    return str(error.orig if isinstance(error, DBAPIError) else error)
