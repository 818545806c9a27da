"""Opens the Iceberg catalog, and creates and finds K2's tables in it."""

from contextlib import suppress

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from k2_market.errors import K2Error
from k2_market.schemas.tables import PARTITION_COLUMN, PARTITION_FIELD
from k2_resources.files.private_directories import make_private
from k2_resources.iceberg.catalog_identity import sqlite_file
from k2_resources.iceberg.owned_catalog import OwnedCatalog, require_own
from k2_resources.iceberg.table_errors import CatalogUnavailable, database_message, translate_errors
from k2_resources.logs.structured_logging import get_logger

KEPT_SNAPSHOTS = 30
"""Snapshots a table keeps. pyiceberg's commit costs about a millisecond for each one kept."""

_log = get_logger("iceberg")

_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 30
"""Time-out of a PostgreSQL catalog, which answers in milliseconds."""

_PROPERTIES = {
    # pyiceberg's own retry re-bases an append without asking, and would commit a range twice.
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    # Some hundred files each: what a commit reads and writes anew stays as small in a table of thousands of days.
    "commit.manifest.target-size-bytes": str(64 * 1024),
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    # pyiceberg counts uncompressed Arrow bytes; files come out several times smaller.
    "write.target-file-size-bytes": str(2 * 1024**3),
}


class TableMismatch(K2Error):
    """A table's columns are not those that this K2 writes."""


def open_catalog(uri: str, warehouse: str) -> OwnedCatalog:
    """Return the catalog behind a URI.

    Args:
        uri: A SQLAlchemy URL; ``sqlite:///…`` on a laptop, ``postgresql+psycopg2://…`` on a server.
        warehouse: Where tables live, as ``file:///…`` or ``s3://…``.

    Raises:
        CatalogUnavailable: The database can't be reached or opened.
    """
    shown = _without_credentials(uri)
    if make_url(uri).drivername in ("http", "https", "rest"):
        raise CatalogUnavailable(
            f"Iceberg catalog {shown}: this K2 commits to SQL catalogs alone, as sqlite:///… and "
            "postgresql+psycopg2://…; a REST catalog's commits are not proven yet"
        )
    try:
        file = sqlite_file(make_url(uri))
        if file is not None:
            make_private(file.parent)
        # pool_pre_ping finds a connection that a database restart has cut.
        return OwnedCatalog("k2", uri=with_time_limits(uri), warehouse=warehouse, pool_pre_ping="true")
    except (SQLAlchemyError, OSError, ImportError) as error:
        said = database_message(error) if isinstance(error, SQLAlchemyError) else str(error)
        raise CatalogUnavailable(f"Iceberg catalog {shown}: {said}") from error


def _without_credentials(uri: str) -> str:
    """Return a catalog's URI as messages may show it: its driver and its database.

    Raises:
        CatalogUnavailable: It is no URI; nothing of it is shown, since what can't be told apart may be a password.
    """
    try:
        url = make_url(uri)
        if "@" in (url.host or ""):
            raise ValueError("a password's @ begins the host")
    except (ArgumentError, ValueError):
        raise CatalogUnavailable(
            "K2_CATALOG_URI is not a SQLAlchemy URL; expected driver://user:password@host:port/database, with the "
            "password's special characters percent-encoded, and a port of digits"
        ) from None
    return f"{url.drivername}://…/{(url.database or '').lstrip('/')}"


def with_time_limits(uri: str) -> str:
    """Return a PostgreSQL catalog's URI with limits on how long anything is waited for, where it sets none itself.

    Without them a lock or a network that swallows packets would hold a run until its longest time is over. SQLite's
    driver waits five seconds for a lock.
    """
    url = make_url(uri)
    if url.drivername not in ("postgresql", "postgresql+psycopg2", "postgresql+psycopg"):
        return uri
    limits = {
        "connect_timeout": str(_CONNECT_SECONDS),
        "tcp_user_timeout": str(_STATEMENT_SECONDS * 1000),
        "options": f"-c statement_timeout={_STATEMENT_SECONDS}s",
    }
    return url.set(query={**limits, **url.query}).render_as_string(hide_password=False)


def find_table(catalog: Catalog, feed: str, table: str) -> Table | None:
    """Return a feed's table as it stands now, or None where nothing has been written yet.

    Raises:
        CatalogUnavailable: The catalog does not answer.
        WarehouseUnavailable: The metadata file that the catalog names can't be read.
    """
    try:
        with translate_errors(f"{feed}.{table}", "loading"):
            return catalog.load_table((feed, table))
    except NoSuchTableError:
        return None


def ensure_table(catalog: Catalog, feed: str, table: str, columns: pa.Schema) -> Table:
    """Give a feed's table to be written to, created when it is absent: partitioned by trading day, no own retry (#002).

    Args:
        catalog: The catalog.
        feed: The table's namespace.
        table: Its name there.
        columns: Those that it must have; those that an earlier K2 did not write are added.

    Raises:
        ForeignTable: It is another home's, or would lie elsewhere than in this warehouse.
        TableMismatch: Its columns are not those that this K2 writes.
        CatalogUnavailable: The catalog does not answer.
        WarehouseUnavailable: The metadata file that the catalog names can't be read.
    """
    found = find_table(catalog, feed, table)
    if found is not None:
        require_own(found)
        found = _with_columns(found, columns)
        _require_columns(found, columns)
        return found
    with translate_errors(f"{feed}.{table}", "creating"):
        # Another process may be doing the same: whoever comes second to the namespace or the table finds it there.
        with suppress(IntegrityError):
            catalog.create_namespace_if_not_exists(feed)
        try:
            transaction = catalog.create_table_transaction((feed, table), columns, properties=_PROPERTIES)
            with transaction.update_spec() as spec:
                spec.add_field(PARTITION_COLUMN, DayTransform(), PARTITION_FIELD)
            transaction.commit_transaction()
        except (TableAlreadyExistsError, CommitFailedException):
            pass
        # What the transaction returns is the table as it was staged, which can't be read from.
        created = find_table(catalog, feed, table)
    if created is None:
        raise CatalogUnavailable(f"{feed}.{table}: it was dropped right after it had been made; run it again")
    return created


def absent_properties(table: Table) -> dict[str, str]:
    """Return the properties that a table of an earlier K2 lacks; those that it has are left as they are."""
    return {name: value for name, value in _PROPERTIES.items() if name not in table.properties}


def _with_columns(table: Table, schema: pa.Schema) -> Table:
    """Add the columns that an earlier K2 did not write; rows that are there have null in them."""
    columns = table.schema().as_arrow().names
    absent = [field for field in schema if field.name not in columns and field.nullable]
    if not absent:
        return table
    name = ".".join(table.name())
    with translate_errors(name, f"adding columns {', '.join(field.name for field in absent)} to"):
        try:
            with table.update_schema() as update:
                update.union_by_name(pa.schema(absent))
        except CommitFailedException:  # another writer was quicker, perhaps with the same columns
            return _with_columns(table.refresh(), schema)
    _log.info("columns added", table=name, columns=[field.name for field in absent])
    return table


def _require_columns(table: Table, schema: pa.Schema) -> None:
    """See that a table has this K2's columns, as another version's may not.

    Raises:
        TableMismatch: A column is absent, or a decimal has other digits.
    """
    columns = table.schema().as_arrow()
    for field in schema:
        where = f"table {'.'.join(table.name())}, column {field.name}"
        position = columns.get_field_index(field.name)
        if position < 0:
            raise TableMismatch(
                f"{where}: it is not there, and this K2 writes it. Was the table made by another version?"
            )
        found = columns.field(position).type
        if pa.types.is_decimal(field.type) and found != field.type:
            raise TableMismatch(
                f"{where}: found {found}, expected {field.type}. Was the table made by another version? Drop it, and "
                "it is made anew from Kafka (raw tables) or from its source (the others)"
            )
