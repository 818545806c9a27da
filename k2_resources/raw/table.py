"""Appends to a raw table: rows and the offset ranges they came from, committed together (refines #003).

Rows are written as files first, which takes the most time and which no other writer can spoil. The fence is the ledger
in the table itself. A commit is refused by Iceberg's compare-and-swap when anyone else committed since the table was
loaded; every attempt therefore loads the table anew and looks at the ledger again.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_market.errors import K2Error
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.day_report import DayReport, merged
from k2_market.ledger.ledger import PROPERTY, Batch, Ledger, join_batches
from k2_market.ledger.offset_ranges import RangeSet
from k2_resources.iceberg.catalog import ensure_table, find_table
from k2_resources.iceberg.day_files import append_files
from k2_resources.iceberg.snapshot_expiry import expire_oldest
from k2_resources.iceberg.snapshot_summary import BATCH_ID, DAYS, MESSAGES, RANGES, RUN_ID
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.iceberg.table_layout import Layout
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.commit import ATTEMPTS, Conflict, commit_once, retry_on_conflict
from k2_resources.raw.delivery import Delivery, WrittenDelivery, written
from k2_resources.raw.view import RawView, ledger_of, with_new_rows
from k2_resources.runtime import crash_points

_STILL_PENDING = "its offsets are still pending and will be planned again"

_log = get_logger("iceberg")


@dataclass(frozen=True)
class Commit:
    """Describes what a commit did.

    Attributes:
        snapshot_id: The table's snapshot after it, or None when there was nothing to write.
        by_day: What it added to each trading day.
        batch: What it entered in the ledger; covers nothing when there was nothing to write.
        refused: Ranges that were in the ledger already; their rows were left out.
        seconds: From the first look at the ledger to the catalog's answer.
    """

    snapshot_id: int | None
    by_day: Mapping[date, DayReport]
    batch: Batch
    refused: RangeSet
    seconds: float = 0.0


class RawTable:
    """A feed's raw table, with its ledger."""

    def __init__(self, catalog: Catalog, feed: str, kind: RawKind) -> None:
        self._catalog = catalog
        self._feed = feed
        self.kind = kind
        self._name = kind.raw_table
        self._seen: Table | None = None
        self.schema = kind.messages.rows

    @property
    def identifier(self) -> str:
        """Name the table within the catalog, its namespace first."""
        return f"{self._feed}.{self._name}"

    def ledger(self) -> Ledger:
        """Return the ledger as it stands; an empty one where no table is.

        Raises:
            LedgerError: The ledger can't be read, or the table was rolled back behind it.
        """
        table = find_table(self._catalog, self._feed, self._name)
        return Ledger() if table is None else ledger_of(table)

    def view(self) -> "RawView":
        """Return the table as it is now; what is read through the view belongs to one snapshot."""
        return RawView(find_table(self._catalog, self._feed, self._name), self.schema)

    def write(self, delivery: Delivery) -> WrittenDelivery:
        """Write a delivery's rows as files, which belong to no snapshot until they are committed.

        Raises:
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file can't be written.
        """
        if self._seen is None:
            self._seen = ensure_table(self._catalog, self._feed, self._name, self.schema)
        return self._written(delivery, self._seen)

    def commit(self, delivery: Delivery) -> Commit:
        """Write a delivery's rows and commit them; as ``write`` and ``commit_written``."""
        return self.commit_written([self.write(delivery)])

    def commit_written(self, deliveries: Sequence[WrittenDelivery]) -> Commit:
        """Append one or more deliveries of a run and enter their offsets in the ledger, in one commit.

        Rows whose offsets turn out to be in the ledger already are left out, so that two writers forced onto
        the same range commit it once. Never repeats a commit whose outcome it does not know.

        Raises:
            LedgerError: The table's ledger can't be trusted, or two deliveries stand for the same offset.
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file can't be read or written.
            FilesGone: A file that was written is not there any more; its offsets are still pending.
            ForeignTable: The table is another home's.
            CommitOutcomeUnknown: The catalog gave no answer, and does not show the batch.
        """
        try:
            return retry_on_conflict(lambda: self._attempt(deliveries))
        except Conflict as conflict:
            raise K2Error(
                f"{self.identifier}: batch {deliveries[0].batch.batch_id} lost against other writers {ATTEMPTS} times; "
                f"{_STILL_PENDING}"
            ) from conflict

    def _attempt(self, deliveries: Sequence[WrittenDelivery]) -> Commit:
        started = time.perf_counter()
        table = ensure_table(self._catalog, self._feed, self._name, self.schema)
        ledger = ledger_of(table)
        refused = join_batches(each.batch for each in deliveries).covered & ledger.covered
        if refused:
            _log.warning("offsets already in the ledger, left out", table=self.identifier, ranges=str(list(refused)))
        deliveries = [self._fitting(each, refused, table) for each in deliveries]
        batch = join_batches(each.batch for each in deliveries)
        if not ledger.has_news(batch):
            return Commit(None, {}, Batch(batch.batch_id, RangeSet(), 0), refused)
        names = {topic_id: name for each in deliveries for topic_id, name in each.topic_names.items()}
        after = ledger.with_batch(batch, names)
        by_day = merged(each.by_day for each in deliveries)
        transaction = TableTransaction(table)
        expire_oldest(transaction, table)
        # Without rows (aborted transactions, losses) it is an empty snapshot: a commit of properties alone would have
        # no guard against another writer.
        files = [file for each in deliveries for file in each.files]
        with translate_errors(self.identifier, f"writing a snapshot of {batch.messages} rows of"):
            append_files(transaction, files, _summary(batch, deliveries[0].run_id, by_day))
        transaction.set_properties({PROPERTY: after.to_json(), **with_new_rows(table, by_day)})
        crash_points.reached("before_cas")
        self._seen = commit_once(transaction, self._catalog, self.identifier, batch.batch_id, _STILL_PENDING)
        crash_points.reached("after_cas")
        snapshot = self._seen.current_snapshot()
        return Commit(
            snapshot_id=None if snapshot is None else snapshot.snapshot_id,
            by_day=by_day,
            batch=batch,
            refused=refused,
            seconds=time.perf_counter() - started,
        )

    def _fitting(self, delivery: WrittenDelivery, refused: RangeSet, table: Table) -> WrittenDelivery:
        """Return a delivery as the table takes it: without what is refused, in files of the table as it is now."""
        if delivery.batch.covered.isdisjoint(refused) and delivery.layout == Layout.of(table):
            return delivery
        with translate_errors(self.identifier, f"reading {delivery.batch.messages} written rows of"):
            again = delivery.read_again(table, self.schema)
        return self._written(again.without(refused), table)

    def _written(self, delivery: Delivery, table: Table) -> WrittenDelivery:
        with translate_errors(self.identifier, f"writing {delivery.rows.num_rows} rows of"):
            found = written(delivery, table)
        crash_points.reached("parquet_written")
        return found


def _summary(batch: Batch, run_id: str, days: Iterable[date]) -> dict[str, str]:
    return {
        BATCH_ID: batch.batch_id,
        RANGES: " ".join(map(str, batch.covered)),
        MESSAGES: str(batch.messages),
        RUN_ID: run_id,
        DAYS: " ".join(sorted(map(str, days))),
    }
