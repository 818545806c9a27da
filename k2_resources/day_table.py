"""A derived table's door: a trading day is replaced whole, other days' files are not touched."""

import time
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from k2_resources import crash_points
from k2_resources.iceberg_catalog import TABLE_SCHEMAS, DayFiles, day_files, ensure_table, find_table, of_day
from k2_resources.raw_view import RUN_ID
from k2_resources.snapshot_expiry import expire_oldest
from k2_resources.table_errors import CatalogUnavailable, in_words
from k2_resources.table_transaction import TableTransaction

_ATTEMPTS = 10
_MOST_SECONDS = 60.0
"""How long a catalog that does not answer, or lets others commit first, is tried again."""


@dataclass(frozen=True)
class Published:
    """What publishing a day did.

    Attributes:
        snapshot_id: The table's snapshot after it.
        changed: Whether rows differ from the version that was published; if not, nothing was written.
        write_seconds: Time to write data and manifest files.
        commit_seconds: Time from there to the catalog's answer.
    """

    snapshot_id: int | None
    changed: bool
    write_seconds: float = 0.0
    commit_seconds: float = 0.0


class DayTable:
    """A feed's derived table: ``trades`` or one of the bar tables."""

    def __init__(self, catalog: Catalog, feed: str, name: str) -> None:
        self._catalog = catalog
        self._feed = feed
        self._name = name
        self.schema = TABLE_SCHEMAS[name]

    @property
    def identifier(self) -> str:
        """Catalog name, as ``asx.trades``."""
        return f"{self._feed}.{self._name}"

    def read_day(self, day: date) -> pa.Table:
        """The published rows of a trading day, in the order in which they were written.

        Raises:
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file of the table can't be read.
        """
        table = find_table(self._catalog, self._feed, self._name)
        if table is None or table.current_snapshot() is None:
            return self.schema.empty_table()
        with in_words(self.identifier, f"reading {day} of"):
            return table.scan(row_filter=of_day(day)).to_arrow().cast(self.schema)

    def files(self, day: date) -> DayFiles:
        """The files of a trading day's published version."""
        return day_files(find_table(self._catalog, self._feed, self._name), day)

    def replace_day(self, day: date, rows: pa.Table, run_id: str) -> Published:
        """Make ``rows`` the day's published version, in one commit; readers see the old or the new day.

        A commit whose answer was lost is simply tried again: where it landed, the day has these rows already.

        Args:
            day: The trading day.
            rows: All of the day's rows, in the table's schema; may be empty.
            run_id: The run that publishes, for the snapshot's summary.

        Raises:
            CatalogUnavailable: The catalog does not answer, or others commit first each time.
            WarehouseUnavailable: A file of the table can't be read or written.
        """
        retrying = Retrying(
            retry=retry_if_exception_type((CommitFailedException, CatalogUnavailable)),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_MOST_SECONDS),
            wait=wait_exponential(multiplier=0.05, max=5) + wait_random(0, 0.2),  # 16 s in all: a database's restart
            reraise=True,
        )
        try:
            return retrying(self._attempt, day, rows.cast(self.schema), run_id)
        except CommitFailedException as conflict:
            raise CatalogUnavailable(
                f"{self.identifier}: {day} was not published: other writers committed first each time: {conflict}"
            ) from conflict

    def _attempt(self, day: date, rows: pa.Table, run_id: str) -> Published:
        table = ensure_table(self._catalog, self._feed, self._name)
        snapshot = table.current_snapshot()
        before = self.read_day(day)
        if snapshot is not None and before.equals(rows):
            return Published(snapshot.snapshot_id, changed=False)
        if not rows.num_rows and not before.num_rows:
            return Published(None if snapshot is None else snapshot.snapshot_id, changed=False)
        with in_words(self.identifier, f"publishing {day} in"):
            return self._replaced(table, day, before, rows, run_id)

    def _replaced(self, table: Table, day: date, before: pa.Table, rows: pa.Table, run_id: str) -> Published:
        started = time.perf_counter()
        transaction = TableTransaction(table)
        expire_oldest(transaction, table)
        whole_day = of_day(day)
        if not rows.num_rows:
            transaction.delete(whole_day, snapshot_properties={RUN_ID: run_id})
        elif before.num_rows:
            transaction.overwrite(rows, overwrite_filter=whole_day, snapshot_properties={RUN_ID: run_id})
        else:
            transaction.append(rows, snapshot_properties={RUN_ID: run_id})
        written = time.perf_counter()
        crash_points.reached("bars_half")
        committed = transaction.commit_transaction().current_snapshot()
        return Published(
            snapshot_id=None if committed is None else committed.snapshot_id,
            changed=True,
            write_seconds=written - started,
            commit_seconds=time.perf_counter() - written,
        )
