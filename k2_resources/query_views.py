"""Views of the catalog's tables in DuckDB: ``<feed>.<table>``, and ``all_feeds.<table>`` over all feeds.

A view is an ``iceberg_scan`` of the table's current metadata file: a connection sees one state of a table as long as
it lives, columns follow the table's schema over all its files, and files are skipped by trading day and by the
smallest and largest value of any column in them. A table that nothing was written to yet is empty, with its columns.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_market.errors import K2Error
from k2_resources.duckdb_connection import identifier, literal, open_connection, seal
from k2_resources.iceberg_catalog import TABLE_SCHEMAS, find_table

ALL_FEEDS = "all_feeds"
"""The schema whose views hold every feed's rows, the feed's name in their first column, ``feed``."""

_FIRST_SEQUENCE_NUMBER = 1
"""Iceberg numbers a table's snapshots from here."""


class SnapshotNotKept(K2Error):
    """A table's state at some time was asked for which it keeps no snapshot of any more."""


def open_query_connection(
    catalog: Catalog,
    feeds: Iterable[str],
    *,
    spill_directory: Path,
    tables: Collection[tuple[str, str]] | None = None,
    as_of: datetime | None = None,
) -> duckdb.DuckDBPyConnection:
    """A connection that has the views and can reach their tables' files and nothing else.

    It is a context manager that closes itself.

    Args:
        catalog: The Iceberg catalog.
        feeds: Names of the feeds to show.
        spill_directory: Where what does not fit into memory goes meanwhile.
        tables: Names (schema, table) that will be used. If all are views, only those are made: each costs a look
            into the table's metadata. ``None`` makes all.
        as_of: The moment whose state the tables are shown in; now if absent.

    Raises:
        SnapshotNotKept: ``as_of`` lies before the oldest snapshot that a table still has.
        DuckDBExtensionError: DuckDB's Iceberg extension is missing.
    """
    connection = open_connection(spill_directory)
    try:
        seal(connection, create_views(connection, catalog, feeds, tables=tables, as_of=as_of))
    except BaseException:
        connection.close()
        raise
    return connection


def create_views(
    connection: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    feeds: Iterable[str],
    *,
    tables: Collection[tuple[str, str]] | None = None,
    as_of: datetime | None = None,
) -> list[str]:
    """Make the views on a connection that is ready but not sealed yet; arguments as for ``open_query_connection``.

    Returns:
        The locations of the tables that the views read.
    """
    feeds = sorted(feeds)
    wanted = _wanted(feeds, tables)
    locations = []
    for feed, table in sorted(wanted):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(feed)}")
        location = create_view(connection, view_name(feed, table), catalog, feed, table, as_of=as_of)
        locations += [] if location is None else [location]
    if feeds:
        connection.execute(f"CREATE SCHEMA {identifier(ALL_FEEDS)}")
    for table in TABLE_SCHEMAS:
        if all((feed, table) in wanted for feed in feeds):
            _create_view_over_feeds(connection, feeds, table)
    return locations


def create_view(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    catalog: Catalog,
    feed: str,
    table: str,
    *,
    as_of: datetime | None = None,
) -> str | None:
    """Make one view of one table.

    Args:
        connection: Ready, and not sealed yet.
        view: The view's name as SQL.
        catalog: The Iceberg catalog.
        feed: The table's namespace.
        table: The table's name there.
        as_of: As for ``open_query_connection``.

    Returns:
        The table's location; None where there is none and the view is empty.
    """
    found = find_table(catalog, feed, table)
    snapshot_id = None if found is None or as_of is None else snapshot_as_of(found, as_of)
    if found is None or (as_of is not None and snapshot_id is None):
        connection.from_arrow(TABLE_SCHEMAS[table].empty_table()).create(view)
        return None
    connection.execute(f"CREATE VIEW {view} AS FROM {scan_sql(found, snapshot_id)}")
    return found.location()


def scan_sql(table: Table, snapshot_id: int | None = None) -> str:
    """The ``iceberg_scan(…)`` of a table, to stand after FROM.

    Args:
        table: The table, as the catalog has it now.
        snapshot_id: The snapshot to read, with the schema of its time; the current one if absent.
    """
    at = "" if snapshot_id is None else f", snapshot_from_id = {snapshot_id}"
    return f"iceberg_scan({literal(table.metadata_location)}{at})"


def snapshot_as_of(table: Table, moment: datetime) -> int | None:
    """The snapshot that was a table's current one at some moment; None if it had none yet.

    Args:
        table: The table.
        moment: An instant with a time zone.

    Raises:
        SnapshotNotKept: The table had a snapshot then, but it has expired.
    """
    found = table.snapshot_as_of_timestamp(int(moment.timestamp() * 1000))
    if found is not None:
        return found.snapshot_id
    history = table.history()
    oldest = table.snapshot_by_id(history[0].snapshot_id) if history else None
    # Expiry takes older ones out of the history, and the oldest one's parent with them; its number stays.
    if oldest is not None and oldest.sequence_number != _FIRST_SEQUENCE_NUMBER:
        since = datetime.fromtimestamp(oldest.timestamp_ms / 1000, UTC).isoformat()
        raise SnapshotNotKept(
            f"table {'.'.join(table.name())}: no snapshot as old as {moment.isoformat()} is kept. "
            f"The oldest is of {since}: ask for a later moment."
        )
    return None


def view_name(schema: str, table: str) -> str:
    """A view's name as SQL, quoted."""
    return f"{identifier(schema)}.{identifier(table)}"


def _wanted(feeds: Iterable[str], named: Collection[tuple[str, str]] | None) -> set[tuple[str, str]]:
    known = {(feed, table) for feed in feeds for table in TABLE_SCHEMAS}
    over_feeds = {(ALL_FEEDS, table) for table in TABLE_SCHEMAS}
    if named is None or not known | over_feeds >= set(named):
        return known
    return {(feed, table) for feed, table in known if (feed, table) in named or (ALL_FEEDS, table) in named}


def _create_view_over_feeds(connection: duckdb.DuckDBPyConnection, feeds: Iterable[str], table: str) -> None:
    selects = (f"SELECT {literal(feed)} AS feed, * FROM {view_name(feed, table)}" for feed in feeds)
    connection.execute(f"CREATE VIEW {view_name(ALL_FEEDS, table)} AS {' UNION ALL BY NAME '.join(selects)}")
