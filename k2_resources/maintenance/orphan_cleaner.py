"""Removes files that no table refers to any more: those of expired snapshots, and what killed commits left behind.

Safe beside ingestion, builds and readers, however long any of them stands still: a look marks, a later look deletes
(``plans.orphan_files``). Files are listed before the table is loaded, so that what a commit in between brought is
known to be referred to. Before it deletes, a look commits that it is about to, on the very table that it has looked at.
Whoever has loaded the table before that can't commit any more; whoever loads it later sees that its files may be gone,
and writes them anew (``table_layout``). No clock has to be right for that, but for readers of expired snapshots (#054).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table

from k2_market.errors import K2Error
from k2_market.plans.orphan_files import (
    CLEANINGS,
    FileListing,
    StoredFile,
    SweepPlan,
    marks_from_json,
    marks_to_json,
    plan_sweep,
)
from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.owned_catalog import require_own
from k2_resources.iceberg.reachable_files import Reachable, reachable
from k2_resources.iceberg.table_errors import CatalogUnavailable, translate_errors
from k2_resources.iceberg.table_layout import cleanings_of
from k2_resources.iceberg.table_storage import TableStorage
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.logs.structured_logging import get_logger
from k2_resources.runtime import crash_points

MARKS = "metadata/k2-orphan-marks.json"
"""File of a table's marks, beside its data, so that any machine finds it."""

LEAST_FLOOR = timedelta(seconds=MAX_RUNTIME_SECONDS)
"""A run is ended after that long, so no commit takes longer."""

_ATTEMPTS = 10

_NOTHING_DELETED = "Nothing was deleted: what is left may be needed to repair the table"

_log = get_logger("maintenance")


class FloorTooLow(K2Error):
    """Files were to be deleted that may be of a commit under way."""


class LocationShared(K2Error):
    """Another table's files lie under a table's location, so orphans can't be found there."""


class FileMissing(K2Error):
    """A table refers to a file that is not there; nothing is deleted of a table that is damaged."""


class OrphanCleaner:
    """Cleans the tables of a catalog.

    Args:
        catalog: The catalog.
        floor: How long a file rests: since it was written, and since it was first seen without reference.
        clock: The time by a storage's own clock. Unless given, a small file is written to ask the storage for it; a
            look that changes nothing takes this machine's time.

    Raises:
        FloorTooLow: The floor is shorter than a commit may take.
    """

    def __init__(
        self, catalog: Catalog, floor: timedelta, clock: Callable[[TableStorage], datetime] | None = None
    ) -> None:
        if floor < LEAST_FLOOR:
            raise FloorTooLow(
                f"files must rest for {LEAST_FLOOR / timedelta(hours=1):g} h at least, not "
                f"{floor / timedelta(hours=1):g} h: a run may take that long, and its files are referred to only then"
            )
        self._catalog = catalog
        self._floor = floor
        self._clock = clock
        self._locations: dict[str, str] | None = None

    def look(self, feed: str, name: str) -> SweepPlan | None:
        """Say what cleaning a table would do, and change nothing; None where there is no such table.

        Raises:
            ForeignTable: The table is another home's.
            LocationShared: Another table lies under its location.
            FileMissing: It refers to a file that is not there.
        """
        table = find_table(self._catalog, feed, name)
        if table is None:
            return None
        looked = self._looked(TableStorage(table), feed, name, self._clock or _this_machines_time)
        return None if looked is None else looked.sweep

    def clean(self, feed: str, name: str) -> SweepPlan | None:
        """Delete what has rested long enough, and mark what has not; None where there is no such table.

        Raises:
            CatalogUnavailable: It does not answer, or others committed first each time; nothing was deleted.
            K2Error: As ``look`` does; nothing was deleted.
        """
        table = find_table(self._catalog, feed, name)
        if table is None:
            return None
        require_own(table)
        storage = TableStorage(table)
        for _ in range(_ATTEMPTS):
            looked = self._looked(storage, feed, name, self._clock or TableStorage.now)
            if looked is None:
                return None
            # Marks first: deleted files need none, and what a crash leaves undeleted is marked anew.
            storage.write(MARKS, marks_to_json(looked.sweep.marks))
            if not looked.sweep.deletable or _is_announced(looked.table):
                _delete(storage, looked.sweep)
                _log.info("orphan files deleted", table=f"{feed}.{name}", files=len(looked.sweep.deletable))
                return looked.sweep
        raise CatalogUnavailable(
            f"{feed}.{name}: files that nothing refers to were left, since other writers committed first {_ATTEMPTS} "
            "times. The next cleaning takes them"
        )

    def _looked(
        self, storage: TableStorage, feed: str, name: str, clock: Callable[[TableStorage], datetime]
    ) -> "_Looked | None":
        now, files = clock(storage), storage.files()
        table = find_table(self._catalog, feed, name)
        if table is None:
            return None
        require_own(table)
        self._require_own_location(table, storage)
        referred = _followed(table)
        _require_all(table, referred, files, storage)
        snapshot = table.current_snapshot()
        look = FileListing(
            now=now,
            files=tuple(each for each in files if each.path != MARKS),
            reachable=frozenset(
                path for each in (referred.needed | referred.noted) if (path := storage.path_of(each)) is not None
            )
            | _newest_metadata(files),
            snapshot_id=None if snapshot is None else snapshot.snapshot_id,
        )
        return _Looked(table, plan_sweep(look, marks_from_json(storage.read(MARKS)), self._floor))

    def _require_own_location(self, table: Table, storage: TableStorage) -> None:
        if self._locations is None:
            with translate_errors("the catalog's tables", "listing"):
                self._locations = _locations_of(self._catalog)
        for name, location in self._locations.items():
            if name != ".".join(table.name()) and storage.encloses(location):
                raise LocationShared(
                    f"{'.'.join(table.name())} at {table.location()}: {name} lies there too, at {location}. Nothing "
                    "was deleted; move one of them"
                )


@dataclass(frozen=True)
class _Looked:
    """Holds a table as it was listed, and the plan for its files."""

    table: Table
    sweep: SweepPlan


def _locations_of(catalog: Catalog) -> dict[str, str]:
    """Tell where all tables of a catalog lie."""
    found = {}
    for space in catalog.list_namespaces():
        for identifier in catalog.list_tables(space):
            with suppress(NoSuchTableError):  # dropped meanwhile
                found[".".join(identifier)] = catalog.load_table(identifier).location()
    return found


def _is_announced(table: Table) -> bool:
    """Commit the announcement that files are about to be deleted which the table does not refer to.

    False where anyone committed since the look: what they brought may refer to one of the files.
    """
    transaction = TableTransaction(table)
    transaction.set_properties({CLEANINGS: str(cleanings_of(table) + 1)})
    crash_points.reached("before_announcement")
    try:
        with translate_errors(".".join(table.name()), "cleaning"):
            transaction.commit_transaction()
    except CommitFailedException:
        return False
    return True


def _delete(storage: TableStorage, planned: SweepPlan) -> None:
    crash_points.reached("orphans_announced")
    for each in planned.deletable:
        storage.delete(each.path)
        crash_points.reached("orphan_half")


def _this_machines_time(_: TableStorage) -> datetime:
    return datetime.now(UTC)


def _followed(table: Table) -> Reachable:
    try:
        return reachable(table)
    except FileNotFoundError as missing:
        raise FileMissing(f"{'.'.join(table.name())}: {missing}. {_NOTHING_DELETED}") from missing


def _require_all(table: Table, referred: Reachable, files: tuple[StoredFile, ...], storage: TableStorage) -> None:
    """See that all files that the table needs are where they are looked for."""
    listed = {each.path for each in files}
    for location in sorted(referred.needed):
        path = storage.path_of(location)
        # What is not in the list may have been written since.
        if path is not None and path not in listed and not storage.exists(path):
            raise FileMissing(f"{'.'.join(table.name())} refers to {location}, which is not there. {_NOTHING_DELETED}")


def _newest_metadata(files: tuple[StoredFile, ...]) -> frozenset[str]:
    """Return the metadata file written last: should the catalog be lost, the table is registered anew by it."""
    metadata = [each for each in files if each.path.endswith(".metadata.json")]
    return frozenset({max(metadata, key=lambda each: each.modified).path} if metadata else ())
