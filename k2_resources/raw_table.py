"""The raw table's door: rows and the offsets they came from, committed together or not at all (refines #003).

The fence is the ledger in the table itself. A commit is refused by Iceberg's compare-and-swap when anyone else
committed since the table was loaded; every attempt therefore loads the table anew and looks at the ledger again.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog

from k2_market.errors import K2Error
from k2_market.ledger import PROPERTY, Batch, Ledger
from k2_market.offset_ranges import RangeSet
from k2_resources import crash_points
from k2_resources.day_files import append_rows
from k2_resources.iceberg_catalog import TABLE_SCHEMAS, ensure_table, find_table
from k2_resources.raw_view import BATCH_ID, DAYS, MESSAGES, RANGES, RUN_ID, RawView, ledger_of
from k2_resources.settled_commit import ATTEMPTS, Conflict, settled, until_first
from k2_resources.snapshot_expiry import expire_oldest
from k2_resources.structured_logging import get_logger
from k2_resources.table_errors import in_words
from k2_resources.table_transaction import TableTransaction

_STILL_PENDING = "its offsets are still pending and will be planned again"

_log = get_logger("iceberg")


@dataclass(frozen=True)
class Delivery:
    """Rows to commit, and the offsets that they account for.

    Attributes:
        rows: One row for every message of ``covered``, in the raw table's schema.
        covered: The offsets; those without a message are holes.
        topic_names: Name of each topic UUID among them.
        run_id: The run that commits, for the snapshot's summary.
        lost: Offsets that retention removed, to be recorded beside.
        truncated: Offsets of the ledger that the topic's log does not reach any more, to be recorded beside.
        published_days: Days whose trades have been published: rows that come for them are late.
        batch_id: Names the commit, should its outcome be unknown.
    """

    rows: pa.Table
    covered: RangeSet
    topic_names: Mapping[str, str]
    run_id: str
    lost: RangeSet = field(default_factory=RangeSet)
    truncated: RangeSet = field(default_factory=RangeSet)
    published_days: frozenset[date] = frozenset()
    batch_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def batch(self) -> Batch:
        """What the ledger is to know of it."""
        late = pc.is_in(self.rows["trade_date"], value_set=pa.array(sorted(self.published_days), pa.date32()))
        return Batch(
            batch_id=self.batch_id,
            covered=self.covered,
            messages=self.rows.num_rows,
            dead_letters=self.rows.num_rows - self.rows["reject_reason"].null_count,
            late_rows=pc.sum(late).as_py() or 0,
            lost=self.lost,
            truncated=self.truncated,
        )

    def without(self, refused: RangeSet) -> "Delivery":
        """The part of it outside some ranges."""
        topics = self.rows["kafka_topic_id"].to_numpy()
        partitions = self.rows["kafka_partition"].to_numpy()
        offsets = self.rows["kafka_offset"].to_numpy()
        keep = np.ones(self.rows.num_rows, dtype=bool)
        for each in refused:
            inside = (partitions == each.partition) & (offsets >= each.start) & (offsets < each.end)
            keep &= ~(inside & (topics == each.topic_id))
        return replace(self, rows=self.rows.filter(pa.array(keep)), covered=self.covered - refused)


@dataclass(frozen=True)
class Commit:
    """What a commit did.

    Attributes:
        snapshot_id: The table's snapshot after it, or None when there was nothing to write.
        rows: The rows it added.
        batch: What it entered in the ledger; covers nothing when there was nothing to write.
        refused: Ranges that were in the ledger already; their rows were left out.
        write_seconds: Time to write data and manifest files.
        commit_seconds: Time from there to the catalog's answer.
    """

    snapshot_id: int | None
    rows: pa.Table
    batch: Batch
    refused: RangeSet
    write_seconds: float = 0.0
    commit_seconds: float = 0.0


class RawTable:
    """A feed's raw table, with its ledger."""

    def __init__(self, catalog: Catalog, feed: str, name: str = "raw_trades") -> None:
        self._catalog = catalog
        self._feed = feed
        self._name = name
        self.schema = TABLE_SCHEMAS[name]

    @property
    def identifier(self) -> str:
        """Catalog name, as ``asx.raw_trades``."""
        return f"{self._feed}.{self._name}"

    def ledger(self) -> Ledger:
        """The ledger as it stands; an empty one where no table is.

        Raises:
            LedgerError: The ledger can't be read, or the table was rolled back behind it.
        """
        table = find_table(self._catalog, self._feed, self._name)
        return Ledger() if table is None else ledger_of(table)

    def view(self) -> "RawView":
        """The table as it is now; what is read through the view belongs to one snapshot."""
        return RawView(find_table(self._catalog, self._feed, self._name), self.schema)

    def commit(self, delivery: "Delivery") -> Commit:
        """Append a delivery's rows and enter their offsets in the ledger, in one commit.

        Rows whose offsets turn out to be in the ledger already are left out, so that two writers forced onto
        the same range commit it once. Never repeats a commit whose outcome it does not know.

        Raises:
            LedgerError: The table's ledger can't be trusted.
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file can't be written.
            CommitOutcomeUnknown: The catalog gave no answer, and does not show the batch.
        """
        try:
            return until_first(lambda: self._attempt(delivery))
        except Conflict as conflict:
            raise K2Error(
                f"{self.identifier}: batch {delivery.batch_id} lost against other writers {ATTEMPTS} times; "
                f"{_STILL_PENDING}"
            ) from conflict

    def _attempt(self, delivery: "Delivery") -> Commit:
        table = ensure_table(self._catalog, self._feed, self._name)
        ledger = ledger_of(table)
        refused = delivery.covered & ledger.covered
        if refused:
            delivery = delivery.without(refused)
            _log.warning("offsets already in the ledger, left out", table=self.identifier, ranges=str(list(refused)))
        batch = delivery.batch()
        if not ledger.has_news(batch):
            return Commit(None, delivery.rows, Batch(delivery.batch_id, RangeSet(), 0), refused)
        after = ledger.with_batch(batch, dict(delivery.topic_names))
        started = time.perf_counter()
        transaction = TableTransaction(table)
        expire_oldest(transaction, table)
        # Without rows (aborted transactions, losses) it is an empty snapshot: a commit of properties alone would have
        # no guard against another writer.
        with in_words(self.identifier, f"writing {batch.messages} rows of"):
            append_rows(transaction, table.io, delivery.rows, _summary(batch, delivery))
        crash_points.reached("parquet_written")
        transaction.set_properties({PROPERTY: after.to_json()})
        written = time.perf_counter()
        crash_points.reached("before_cas")
        committed = settled(transaction, self._catalog, self.identifier, batch.batch_id, _STILL_PENDING)
        crash_points.reached("after_cas")
        snapshot = committed.current_snapshot()
        return Commit(
            snapshot_id=None if snapshot is None else snapshot.snapshot_id,
            rows=delivery.rows,
            batch=batch,
            refused=refused,
            write_seconds=written - started,
            commit_seconds=time.perf_counter() - written,
        )


def _summary(batch: Batch, delivery: Delivery) -> dict[str, str]:
    return {
        BATCH_ID: batch.batch_id,
        RANGES: " ".join(map(str, batch.covered)),
        MESSAGES: str(batch.messages),
        RUN_ID: delivery.run_id,
        DAYS: " ".join(sorted(str(day) for day in pc.unique(delivery.rows["trade_date"]).to_pylist())),
    }
