"""Reads a raw table at one snapshot: rows, ledger, and the commits that its metadata remembers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from k2_market.errors import LedgerError
from k2_market.ledger.ledger import PROPERTY, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, rows_within
from k2_market.plans.day_builds import VERSIONS_PROPERTY, versions_from_json, versions_to_json
from k2_resources.iceberg import day_files
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.scan_files import days_of
from k2_resources.iceberg.snapshot_summary import BATCH_ID, DAYS, RANGES, RUN_ID


class TableRolledBack(LedgerError):
    """The table's history ends before its ledger does; ``ranges`` are those whose rows went, as far as is known."""

    def __init__(self, message: str, ranges: RangeSet) -> None:
        super().__init__(message)
        self.ranges = ranges


@dataclass(frozen=True)
class PastCommit:
    """A commit that a raw table still remembers: whose it was, when, and which trading days got rows by it."""

    run_id: str
    committed: datetime
    days: tuple[date, ...]
    sequence_number: int


@dataclass(frozen=True)
class RawView:
    """A raw table at one snapshot, or no table at all: rows and ledger that belong together."""

    table: Table | None
    schema: pa.Schema

    @property
    def ledger(self) -> Ledger:
        """The ledger of this snapshot.

        Raises:
            LedgerError: It can't be trusted.
        """
        return Ledger() if self.table is None else ledger_of(self.table)

    @property
    def rows(self) -> int:
        """Rows in the table by its metadata, without reading data."""
        snapshot = None if self.table is None else self.table.current_snapshot()
        return 0 if snapshot is None or snapshot.summary is None else int(snapshot.summary["total-records"] or 0)

    @property
    def snapshot_id(self) -> int | None:
        """The snapshot; none where nothing was ever committed."""
        return None if self.table is None else self.table.metadata.current_snapshot_id

    def at(self, snapshot_id: int | None) -> "RawView":
        """Return the rows as they were at a snapshot; as they are in this view where the table no longer keeps it."""
        if self.table is None or snapshot_id is None or self.table.snapshot_by_id(snapshot_id) is None:
            return self
        then = self.table.metadata.model_copy(update={"current_snapshot_id": snapshot_id})
        table = Table(self.table.name(), then, self.table.metadata_location, self.table.io, self.table.catalog)
        return replace(self, table=table)

    @property
    def day_versions(self) -> dict[date, int]:
        """The version of each day's rows (``k2_market.plans.day_builds``)."""
        return {} if self.table is None else day_versions_of(self.table)

    @property
    def sequence_number(self) -> int:
        """Iceberg's number of the table's latest commit; day versions are such numbers."""
        return 0 if self.table is None else self.table.metadata.next_sequence_number() - 1

    @property
    def commits(self) -> list[PastCommit]:
        """The ingest commits among the snapshots that are kept, oldest first."""
        snapshots = [] if self.table is None else self.table.metadata.snapshots
        summaries = [(each, each.summary.additional_properties) for each in snapshots if each.summary is not None]
        return [
            PastCommit(
                run_id=summary[RUN_ID],
                committed=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                days=tuple(date.fromisoformat(day) for day in summary.get(DAYS, "").split()),
                sequence_number=snapshot.sequence_number or 0,
            )
            for snapshot, summary in summaries
            if RUN_ID in summary
        ]

    def reader(self, days: Sequence[date]) -> DayReader:
        """Reads some trading days, one after the other."""
        return DayReader(self.table, self.schema, days)

    def read_day(self, day: date, *columns: str) -> pa.Table:
        """Return a trading day's rows, all columns unless some are named; only the day's files are opened."""
        return self.reader([day]).read_day(day, *columns)

    def rows_at(self, ranges: RangeSet) -> pa.Table:
        """Return the rows at some offsets, all columns; files that have none of them are not opened."""
        bounds = [
            f"(kafka_partition = {partition} AND kafka_offset >= {spans[0][0]} AND kafka_offset < {spans[-1][1]})"
            for (_, partition), spans in ranges.spans.items()
        ]
        if self.table is None or not bounds:
            return self.schema.empty_table()
        found = [self.schema.empty_table()]
        for task in self.table.scan(row_filter=" OR ".join(bounds)).plan_files():
            rows = day_files.read_files(self.table, [task.file], self.schema)
            found.append(rows.filter(pa.array(rows_within(rows, ranges))))
        return pa.concat_tables(found)

    def all_offsets(self) -> pa.Table:
        """``kafka_topic_id``, ``kafka_partition`` and ``kafka_offset`` of every row of the table."""
        return self.offsets_where("true")

    def offsets_where(self, row_filter: str) -> pa.Table:
        """``kafka_topic_id``, ``kafka_partition`` and ``kafka_offset`` of the rows that a filter lets through."""
        schema = pa.schema([self.schema.field(name) for name in OFFSET_COLUMNS])
        if self.table is None:
            return schema.empty_table()
        scan = self.table.scan(row_filter=row_filter, selected_fields=OFFSET_COLUMNS)
        return scan.to_arrow().select(schema.names).cast(schema)


def day_versions_of(table: Table) -> dict[date, int]:
    """Read the version of each day's rows; where the table has no record of them, all days are of its latest commit."""
    text = table.properties.get(VERSIONS_PROPERTY)
    if text is not None:
        return versions_from_json(text)
    return dict.fromkeys(days_of(table), table.metadata.next_sequence_number() - 1)


def with_new_rows(table: Table, days: Iterable[date]) -> dict[str, str]:
    """Make the property that a commit has to set that adds or rewrites rows of some days.

    Args:
        table: The table as it was loaded for the commit.
        days: Those whose rows change.
    """
    new = dict.fromkeys(days, table.metadata.next_sequence_number())
    return {VERSIONS_PROPERTY: versions_to_json({**day_versions_of(table), **new})}


def ledger_of(table: Table) -> Ledger:
    """Return the ledger that a loaded table carries.

    Raises:
        LedgerError: It can't be read.
        TableRolledBack: It speaks of a batch that the table's history does not hold: the table was rolled back to an
            older snapshot, and committing on top would lose rows.
    """
    text = table.properties.get(PROPERTY)
    ledger = Ledger() if text is None else Ledger.from_json(text)
    newest = next(iter(batch_ids(table)), "")
    if newest != ledger.batch_id:
        gone = _rolled_back(table)
        raise TableRolledBack(
            f"{'.'.join(table.name())}: the ledger ends with batch {ledger.batch_id or '(none)'}, the table's "
            f"history with {newest or '(none)'}: the table was rolled back to an older snapshot. Rows of "
            f"{', '.join(map(str, gone)) or 'unknown ranges (their snapshots are gone)'} are not in it. Roll it "
            f"forward again with `k2 repair --feed {table.name()[0]} --roll-forward`",
            gone,
        )
    return ledger


def _rolled_back(table: Table) -> RangeSet:
    """Return the offset ranges of commits that the table remembers and that its current snapshot does not build on."""
    current = table.current_snapshot()
    after = -1 if current is None else current.sequence_number or 0
    return RangeSet.of(
        OffsetRange.parse(each)
        for snapshot in table.metadata.snapshots
        if (snapshot.sequence_number or 0) > after and snapshot.summary is not None
        for each in snapshot.summary.additional_properties.get(RANGES, "").split()
    )


def batch_ids(table: Table) -> list[str]:
    """Return batch ids along the current snapshot's ancestry, newest first."""
    found = (
        snapshot.summary.additional_properties.get(BATCH_ID)
        for snapshot in ancestors_of(table.current_snapshot(), table.metadata)
        if snapshot.summary is not None
    )
    return [batch_id for batch_id in found if batch_id]
