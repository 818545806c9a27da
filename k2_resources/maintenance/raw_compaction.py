"""Compacts a raw table: small files of closed days become one sorted file each, in one commit, no row changed.

Like ingestion's commit it is refused when anyone else committed since the table was loaded, and is then planned and
written anew on the table as it is by then. The ledger keeps its ranges and gets the commit's batch id.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction

from k2_market.errors import K2Error
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.ledger import PROPERTY, Ledger
from k2_market.plans.compaction_plan import CompactionPlan, FileFacts, FileGroup, plan_compaction
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.data_files import DataFileLocation, day_of_file, live_files
from k2_resources.iceberg.day_files import read_files, require_day_partitions, write_day_files
from k2_resources.iceberg.owned_catalog import require_own
from k2_resources.iceberg.snapshot_expiry import expire_oldest
from k2_resources.iceberg.snapshot_summary import BATCH_ID
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.commit import ATTEMPTS, Conflict, commit_once, retry_on_conflict
from k2_resources.raw.view import ledger_of
from k2_resources.runtime import crash_points

COMPACTED_DAYS = "k2.compacted-days"
"""Summary of a compaction's snapshot. It names no run and no days with new rows: there are none."""

SORTED_BY = ("symbol", "exchange_timestamp", "kafka_topic_id", "kafka_partition", "kafka_offset")
"""The order of rows in a file that is written; the last three tell any two rows apart."""

_UNCHANGED = "the table is as it was; the next maintenance compacts it"

_log = get_logger("maintenance")


class RowsChanged(K2Error):
    """What was written is not what was read; it was not committed."""


@dataclass(frozen=True)
class TableFiles:
    """Counts a table's data files and bytes, the manifests of its current snapshot, and its snapshots."""

    files: int = 0
    bytes: int = 0
    manifests: int = 0
    snapshots: int = 0


@dataclass(frozen=True)
class Compaction:
    """A compaction that was committed.

    Attributes:
        days: The trading days whose files were replaced.
        replaced: Files that were replaced.
        written: Files in their place.
        rows: Rows in them, before and after.
        bytes_before: Size of the files that were replaced.
        bytes_after: Size of those in their place.
        groups_left: Groups of files that further commits are to replace.
        snapshot_id: The table's snapshot after it.
    """

    days: tuple[date, ...]
    replaced: int
    written: int
    rows: int
    bytes_before: int
    bytes_after: int
    groups_left: int
    snapshot_id: int | None


class RawCompactor:
    """Compacts a feed's raw table.

    Args:
        catalog: The catalog.
        feed: Whose table it is.
        kind: What the table holds.
        closed: Which of some trading days have closed.
    """

    def __init__(
        self,
        catalog: Catalog,
        feed: str,
        kind: RawKind,
        closed: Callable[[frozenset[date]], frozenset[date]],
    ) -> None:
        self._catalog = catalog
        self._feed = feed
        self._closed = closed
        self._name = kind.raw_table
        self._columns = kind.messages.rows
        self._identifier = f"{feed}.{self._name}"

    def look(self) -> CompactionPlan:
        """Tell what the next commit would replace; nothing where there is no table.

        Raises:
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: The table's metadata can't be read.
        """
        table = find_table(self._catalog, self._feed, self._name)
        return CompactionPlan() if table is None else self._plan(live_files(table))

    def files(self) -> TableFiles:
        """Tell what the table consists of now; raises like ``look``."""
        table = find_table(self._catalog, self._feed, self._name)
        snapshot = None if table is None else table.current_snapshot()
        if table is None or snapshot is None:
            return TableFiles()
        files = live_files(table)
        size = sum(each.file.file_size_in_bytes for each in files)
        return TableFiles(len(files), size, len(snapshot.manifests(table.io)), len(table.metadata.snapshots))

    def compact(self) -> Compaction | None:
        """Make one commit of what the plan asks for; None where it asks for nothing.

        Raises:
            LedgerError: The table's ledger can't be trusted, or the table was rolled back behind it.
            ForeignTable: The table is another home's.
            TableMismatch: Somebody gave the table other partitions than trading days.
            RowsChanged: A file that was written does not hold the rows that were read.
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file can't be read or written.
            CommitOutcomeUnknown: The catalog gave no answer, and does not show the compaction.
        """
        try:
            return retry_on_conflict(self._attempt)
        except Conflict as conflict:
            raise K2Error(
                f"{self._identifier}: compaction lost against other writers {ATTEMPTS} times; {_UNCHANGED}"
            ) from conflict

    def _attempt(self) -> Compaction | None:
        table = find_table(self._catalog, self._feed, self._name)
        if table is None:
            return None
        require_own(table)
        require_day_partitions(table)
        ledger = ledger_of(table)
        placed = live_files(table)
        plan = self._plan(placed)
        if not plan.groups:
            return None
        by_path = {each.file.file_path: each.file for each in placed}
        old = [by_path[each.path] for group in plan.groups for each in group.files]
        with translate_errors(self._identifier, "compacting"):
            new = [self._written(table, group, [by_path[each.path] for each in group.files]) for group in plan.groups]
        try:
            committed = self._commit(table, ledger, plan.days, old, new)
        except Conflict:
            # Refused for certain, so nobody refers to these; the next attempt writes files of its own.
            _remove(table, new)
            raise
        return _compaction(plan, old, new, committed)

    def _commit(
        self, table: Table, ledger: Ledger, days: Iterable[date], old: list[DataFile], new: list[DataFile]
    ) -> Table:
        batch_id, named = str(uuid.uuid4()), " ".join(map(str, days))
        transaction = TableTransaction(table)
        expire_oldest(transaction, table)
        with translate_errors(self._identifier, "compacting"):
            _replace(transaction, old, new, {BATCH_ID: batch_id, COMPACTED_DAYS: named})
        crash_points.reached("compacted_written")
        transaction.set_properties({PROPERTY: ledger.repaired(batch_id, ledger.dead_letters).to_json()})
        crash_points.reached("before_compaction_cas")
        committed = commit_once(transaction, self._catalog, self._identifier, batch_id, _UNCHANGED)
        crash_points.reached("after_compaction_cas")
        _log.info("files compacted", table=self._identifier, batch_id=batch_id, days=named, files=len(old))
        return committed

    def _plan(self, placed: list[DataFileLocation]) -> CompactionPlan:
        facts = list(_facts(placed))
        return plan_compaction(facts, self._closed(frozenset(each.day for each in facts)))

    def _written(self, table: Table, group: FileGroup, files: list[DataFile]) -> DataFile:
        """Return a group's rows in a file of their own, read back from there and held against what was read before."""
        rows = read_files(table, files, self._columns)
        if rows.num_rows != group.rows:
            raise RowsChanged(
                f"{self._identifier}: the {len(files)} files of {group.day} hold {rows.num_rows} rows, the metadata "
                f"says {group.rows}. {_UNCHANGED.capitalize()}; `k2 verify ledger --feed {self._feed}` says more"
            )
        order = pc.sort_indices(rows, [(name, "ascending") for name in SORTED_BY])
        in_order = rows.take(order)
        del rows
        (file,) = write_day_files(table.metadata, table.io, in_order)
        crash_points.reached("compaction_half")
        if file.record_count != group.rows or not read_files(table, [file], in_order.schema).equals(in_order):
            raise RowsChanged(
                f"{self._identifier}: {file.file_path} does not hold the {group.rows} rows of {group.day} that were "
                f"written to it. It was not committed: {_UNCHANGED}. Is the disk sound?"
            )
        return file


def _facts(placed: Iterable[DataFileLocation]) -> Iterator[FileFacts]:
    for each in placed:
        day, file = day_of_file(each.file), each.file
        if day is not None:
            yield FileFacts(file.file_path, day, file.record_count, file.file_size_in_bytes, each.sequence)


def _replace(transaction: Transaction, old: list[DataFile], new: list[DataFile], summary: dict[str, str]) -> None:
    with transaction.update_snapshot(snapshot_properties=summary).overwrite() as snapshot:
        for file in old:
            snapshot.delete_data_file(file)
        for file in new:
            snapshot.append_data_file(file)


def _remove(table: Table, files: Iterable[DataFile]) -> None:
    for file in files:
        try:
            table.io.delete(file.file_path)
        except OSError as error:
            _log.warning("file left to the orphan cleaner", path=file.file_path, error=repr(error))


def _compaction(plan: CompactionPlan, old: list[DataFile], new: list[DataFile], committed: Table) -> Compaction:
    snapshot = committed.current_snapshot()
    return Compaction(
        days=plan.days,
        replaced=len(old),
        written=len(new),
        rows=sum(each.record_count for each in new),
        bytes_before=sum(each.file_size_in_bytes for each in old),
        bytes_after=sum(each.file_size_in_bytes for each in new),
        groups_left=plan.groups_left,
        snapshot_id=None if snapshot is None else snapshot.snapshot_id,
    )
