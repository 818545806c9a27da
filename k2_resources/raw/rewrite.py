"""Replaces a day's rows in a raw table, in one commit that leaves the ledger's ranges as they are.

Like ingestion's commit it is refused when anyone else committed since the table was loaded, and is then decided anew
on the table as it is by then. It gives its days a new version, so that they are reported and built again.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_market.errors import K2Error
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.ledger import PROPERTY, Ledger
from k2_market.repair.day_repair import Rewrite, dead_letters_after, decoded_offsets
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.day_files import append_files
from k2_resources.iceberg.owned_catalog import require_own
from k2_resources.iceberg.scan_files import day_files, of_day, of_other_days
from k2_resources.iceberg.snapshot_expiry import expire_oldest
from k2_resources.iceberg.snapshot_summary import BATCH_ID, DAYS, RUN_ID
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.commit import ATTEMPTS, Conflict, commit_once, retry_on_conflict
from k2_resources.raw.view import RawView, with_new_rows
from k2_resources.runtime import crash_points

REPAIR = "repair-"
"""Prefix of the run id of a repair's snapshots."""

DEAD = "reject_reason IS NOT NULL"
"""The filter for dead letters."""

_UNCHANGED = "the table is as it was; run the repair again"

_log = get_logger("repair")


class NoTable(K2Error):
    """A table is to be repaired that nothing was written to yet."""


@dataclass(frozen=True)
class RewriteResult:
    """A rewrite that was committed, and the table's snapshot after it."""

    rewrite: Rewrite
    snapshot_id: int | None


class RawRewriter:
    """Rewrites days of a feed's raw table."""

    def __init__(self, catalog: Catalog, feed: str, kind: RawKind) -> None:
        self._catalog = catalog
        self._feed = feed
        self._name = kind.raw_table
        self._columns = kind.messages.rows
        self._identifier = f"{feed}.{self._name}"

    def view(self) -> RawView:
        """Return the table as it is now.

        Raises:
            NoTable: There is none.
        """
        table = find_table(self._catalog, self._feed, self._name)
        if table is None:
            raise NoTable(f"{self._identifier}: there is no such table; nothing was ingested yet")
        return RawView(table, self._columns)

    def commit(self, decide: Callable[[RawView], Rewrite | None]) -> RewriteResult | None:
        """Write what a decision over the table asks for; None where it asks for nothing.

        Args:
            decide: Asked on every attempt, about the table as it is then.

        Raises:
            LedgerError: The table's ledger can't be trusted, or the table was rolled back behind it.
            ForeignTable: The table is another home's.
            CommitOutcomeUnknown: The catalog gave no answer, and does not show the repair.
        """
        try:
            return retry_on_conflict(lambda: self._attempt(decide))
        except Conflict as conflict:
            raise K2Error(
                f"{self._identifier}: the repair lost against other writers {ATTEMPTS} times; {_UNCHANGED}"
            ) from conflict

    def correct_ledger(self, decide: Callable[[RawView, str], Ledger | None]) -> bool:
        """Write another ledger, and an empty snapshot that it belongs to; whether there was one to write.

        Args:
            decide: Asked on every attempt for the ledger to be written, given the table as it is then and the id that
                the ledger is to have; None where there is nothing to correct.

        Raises:
            LedgerError: The table's ledger can't be trusted, or the table was rolled back behind it.
            CommitOutcomeUnknown: The catalog gave no answer, and does not show the correction.
        """
        try:
            return retry_on_conflict(lambda: self._attempt_ledger(decide))
        except Conflict as conflict:
            raise K2Error(
                f"{self._identifier}: the correction lost against other writers {ATTEMPTS} times; {_UNCHANGED}"
            ) from conflict

    def _attempt_ledger(self, decide: Callable[[RawView, str], Ledger | None]) -> bool:
        view, batch_id = self.view(), str(uuid.uuid4())
        after = decide(view, batch_id)
        if after is None:
            return False
        assert view.table is not None
        transaction = TableTransaction(view.table)
        expire_oldest(transaction, view.table)
        append_files(transaction, [], {BATCH_ID: batch_id, RUN_ID: repair_run_id()})
        transaction.set_properties({PROPERTY: after.to_json()})
        crash_points.reached("before_cas")
        commit_once(transaction, self._catalog, self._identifier, batch_id, _UNCHANGED)
        crash_points.reached("after_cas")
        _log.info("ledger corrected", table=self._identifier, batch_id=batch_id)
        return True

    def _attempt(self, decide: Callable[[RawView], Rewrite | None]) -> RewriteResult | None:
        view = self.view()
        assert view.table is not None
        require_own(view.table)
        ledger = view.ledger
        rewrite = decide(view)
        if rewrite is None:
            return None
        batch_id = str(uuid.uuid4())
        other_dead = view.offsets_where(f"{of_other_days(rewrite.day)} AND {DEAD}")
        decoded = decoded_offsets(rewrite) if ledger.set_aside else None
        after = ledger.repaired(batch_id, dead_letters_after(rewrite, other_dead, ledger), decoded)
        transaction = TableTransaction(view.table)
        expire_oldest(transaction, view.table)
        summary = _summary(rewrite, batch_id)
        if day_files(view.table, rewrite.day).files:
            transaction.overwrite(rewrite.in_order, overwrite_filter=of_day(rewrite.day), snapshot_properties=summary)
        else:
            transaction.append(rewrite.in_order, snapshot_properties=summary)
        crash_points.reached("parquet_written")
        transaction.set_properties({PROPERTY: after.to_json(), **with_new_rows(view.table, rewrite.days)})
        crash_points.reached("before_cas")
        table = commit_once(transaction, self._catalog, self._identifier, batch_id, _UNCHANGED)
        crash_points.reached("after_cas")
        _log.info("days rewritten", table=self._identifier, batch_id=batch_id, days=sorted(map(str, rewrite.days)))
        return RewriteResult(rewrite, _snapshot_id(table))


def repair_run_id() -> str:
    """Return a run id for a repair's snapshots, which no Dagster run has."""
    return f"{REPAIR}{uuid.uuid4()}"


def _summary(rewrite: Rewrite, batch_id: str) -> dict[str, str]:
    return {BATCH_ID: batch_id, RUN_ID: repair_run_id(), DAYS: " ".join(sorted(map(str, rewrite.days)))}


def _snapshot_id(table: Table) -> int | None:
    snapshot = table.current_snapshot()
    return None if snapshot is None else snapshot.snapshot_id
