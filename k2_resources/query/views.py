"""Makes DuckDB views of the catalog's tables: ``<feed>.<table>``, and ``all_feeds.<table>`` over all feeds.

A view is an ``iceberg_scan`` of the table's current metadata file: a connection sees one state of a table as long as
it lives, columns follow the table's schema over all its files, and files are skipped by trading day and by the
smallest and largest value of any column in them. A table that nothing was written to yet is empty, with its columns.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from k2_market.errors import K2Error
from k2_market.plans.day_tags import tag_of, tagged_day
from k2_resources.iceberg.catalog import find_table
from k2_resources.query.duckdb_connection import identifier, literal, open_connection, seal

ALL_FEEDS = "all_feeds"
"""The schema whose views hold every feed's rows, the feed's name in their first column, ``feed``."""

_FIRST_SEQUENCE_NUMBER = 1
"""Iceberg numbers a table's snapshots from here."""


class SnapshotNotKept(K2Error):
    """A table's state at some time was asked for which it keeps no snapshot of any more."""


def open_query_connection(
    catalog: Catalog,
    feeds: Iterable[str],
    schemas: Mapping[str, pa.Schema],
    *,
    spill_directory: Path,
    tables: Collection[tuple[str, str]] | None = None,
    as_of: date | None = None,
) -> duckdb.DuckDBPyConnection:
    """Return a connection that has the views and can reach their tables' files and nothing else.

    It is a context manager that closes itself.

    Args:
        catalog: The Iceberg catalog.
        feeds: Names of the feeds to show.
        schemas: The tables to show of each, by name, with their columns.
        spill_directory: Where what does not fit into memory goes meanwhile.
        tables: Names (schema, table) that will be used. If all are views, only those are made: each costs a look
            into the table's metadata. ``None`` makes all.
        as_of: The moment whose state the tables are shown in, or the trading day whose end it is; now if absent.

    Raises:
        SnapshotNotKept: A table has no snapshot of that time any more.
        DuckDBExtensionError: DuckDB's Iceberg extension is missing.
    """
    connection = open_connection(spill_directory)
    try:
        seal(connection, create_views(connection, catalog, feeds, schemas, tables=tables, as_of=as_of))
    except BaseException:
        connection.close()
        raise
    return connection


def create_views(
    connection: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    feeds: Iterable[str],
    schemas: Mapping[str, pa.Schema],
    *,
    tables: Collection[tuple[str, str]] | None = None,
    as_of: date | None = None,
) -> list[str]:
    """Make the views on a connection that is ready but not sealed yet; arguments as for ``open_query_connection``.

    Returns:
        The locations of the tables that the views read.
    """
    feeds = sorted(feeds)
    wanted = _wanted(feeds, schemas, tables)
    locations = []
    for feed, table in sorted(wanted):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(feed)}")
        location = create_view(connection, view_name(feed, table), catalog, feed, table, schemas[table], as_of=as_of)
        locations += [] if location is None else [location]
    if feeds:
        connection.execute(f"CREATE SCHEMA {identifier(ALL_FEEDS)}")
    for table in schemas:
        if all((feed, table) in wanted for feed in feeds):
            _create_view_over_feeds(connection, feeds, table)
    return locations


def create_view(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    catalog: Catalog,
    feed: str,
    table: str,
    columns: pa.Schema,
    *,
    as_of: date | None = None,
) -> str | None:
    """Make one view of one table.

    Args:
        connection: Ready, and not sealed yet.
        view: The view's name as SQL.
        catalog: The Iceberg catalog.
        feed: The table's namespace.
        table: The table's name there.
        columns: Those of the view where there is no table.
        as_of: As for ``open_query_connection``.

    Returns:
        The table's location; None where there is none and the view is empty.
    """
    found = find_table(catalog, feed, table)
    snapshot_id = None if found is None or as_of is None else _snapshot_of(found, as_of)
    if found is None or (as_of is not None and snapshot_id is None):
        connection.from_arrow(columns.empty_table()).create(view)
        return None
    connection.execute(f"CREATE VIEW {view} AS FROM {scan_sql(found, snapshot_id)}")
    return found.location()


def scan_sql(table: Table, snapshot_id: int | None = None) -> str:
    """Return the ``iceberg_scan(…)`` of a table, to stand after FROM.

    Args:
        table: The table, as the catalog has it now.
        snapshot_id: The snapshot to read, with the schema of its time; the current one if absent.

    Raises:
        K2Error: DuckDB can't be given its path.
    """
    if '"' in table.metadata_location:
        raise K2Error(
            f"{'.'.join(table.name())}: DuckDB reads no table below a path with a double quote; found "
            f"{table.metadata_location}. Move the home or the warehouse, and `k2 relocate`"
        )
    at = "" if snapshot_id is None else f", snapshot_from_id = {snapshot_id}"
    return f"iceberg_scan({literal(table.metadata_location)}{at})"


def snapshot_as_of(table: Table, moment: datetime) -> int | None:
    """Return the snapshot that was a table's current one at some moment; None if it had none yet.

    Args:
        table: The table.
        moment: An instant with a time zone.

    Raises:
        SnapshotNotKept: The table had a snapshot then, but it has expired.
    """
    asked = int(moment.timestamp() * 1000)
    kept = [(entry.timestamp_ms, table.snapshot_by_id(entry.snapshot_id)) for entry in table.history()]
    before = next((snapshot for since, snapshot in reversed(kept) if since <= asked), None)
    after = next((snapshot for since, snapshot in kept if since > asked), None)
    if after is not None and not _is_next(table, before, after):
        since = datetime.fromtimestamp(after.timestamp_ms / 1000, UTC).isoformat()
        days = ", ".join(map(str, _tagged_days(table))) or "none"
        raise SnapshotNotKept(
            f"table {'.'.join(table.name())}: no snapshot of {moment.isoformat()} is kept. The next one kept is of "
            f"{since}: ask for a later moment, or for the end of a trading day (kept of {days})."
        )
    return None if before is None else before.snapshot_id


def snapshot_of_day(table: Table, day: date) -> int:
    """Return the snapshot that was tagged as the end of a trading day.

    Raises:
        SnapshotNotKept: There is no such tag, or not any more.
    """
    tag = table.metadata.refs.get(tag_of(day))
    if tag is None:
        raise SnapshotNotKept(
            f"table {'.'.join(table.name())}: no tag {tag_of(day)}. Kept are the ends of "
            f"{', '.join(map(str, _tagged_days(table))) or 'no day'}."
        )
    return tag.snapshot_id


def _snapshot_of(table: Table, as_of: date) -> int | None:
    return snapshot_as_of(table, as_of) if isinstance(as_of, datetime) else snapshot_of_day(table, as_of)


def _is_next(table: Table, before: Snapshot | None, after: Snapshot) -> bool:
    """Say whether no snapshot that has expired was the table's between two that follow each other in its history.

    Tags keep single snapshots among others that have expired, and the history tells of those that are kept alone.
    """
    if before is None:
        return after.sequence_number == _FIRST_SEQUENCE_NUMBER
    if (after.sequence_number or 0) <= (before.sequence_number or 0):
        return True  # the table was rolled back to it
    return any(each.snapshot_id == before.snapshot_id for each in ancestors_of(after, table.metadata))


def _tagged_days(table: Table) -> list[date]:
    return sorted(day for name in table.metadata.refs if (day := tagged_day(name)) is not None)


def view_name(schema: str, table: str) -> str:
    """Return a view's name as SQL, quoted."""
    return f"{identifier(schema)}.{identifier(table)}"


def _wanted(
    feeds: Iterable[str], tables: Collection[str], named: Collection[tuple[str, str]] | None
) -> set[tuple[str, str]]:
    known = {(feed, table) for feed in feeds for table in tables}
    over_feeds = {(ALL_FEEDS, table) for table in tables}
    if named is None or not known | over_feeds >= set(named):
        return known
    return {(feed, table) for feed, table in known if (feed, table) in named or (ALL_FEEDS, table) in named}


def _create_view_over_feeds(connection: duckdb.DuckDBPyConnection, feeds: Iterable[str], table: str) -> None:
    selects = (f"SELECT {literal(feed)} AS feed, * FROM {view_name(feed, table)}" for feed in feeds)
    connection.execute(f"CREATE VIEW {view_name(ALL_FEEDS, table)} AS {' UNION ALL BY NAME '.join(selects)}")
