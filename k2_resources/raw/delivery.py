"""Writes rows to files of a raw table, before they are committed together with their offset ranges."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_market.errors import K2Error
from k2_market.ledger.day_report import DayReport, reports_by_day
from k2_market.ledger.ledger import Batch
from k2_market.ledger.offset_ranges import RangeSet
from k2_resources.iceberg import day_files
from k2_resources.iceberg.table_layout import Layout
from k2_resources.iceberg.whole_files import require_whole


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
        set_aside: Offsets to be recorded as set aside: those of rows that were not decoded, and others without a row.
        published_days: Days whose trades have been published: rows that come for them are late.
        batch_id: Names the commit, should its outcome be unknown; of several committed together, the first one's does.
    """

    rows: pa.Table
    covered: RangeSet
    topic_names: Mapping[str, str]
    run_id: str
    lost: RangeSet = field(default_factory=RangeSet)
    truncated: RangeSet = field(default_factory=RangeSet)
    set_aside: RangeSet = field(default_factory=RangeSet)
    published_days: frozenset[date] = frozenset()
    batch_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def batch(self) -> Batch:
        """Tell what the ledger is to know of it."""
        late = pc.is_in(self.rows["trade_date"], value_set=pa.array(sorted(self.published_days), pa.date32()))
        return Batch(
            batch_id=self.batch_id,
            covered=self.covered,
            messages=self.rows.num_rows,
            dead_letters=self.rows.num_rows - self.rows["reject_reason"].null_count,
            late_rows=pc.sum(late).as_py() or 0,
            lost=self.lost,
            truncated=self.truncated,
            set_aside=self.set_aside,
        )

    def without(self, refused: RangeSet) -> "Delivery":
        """Return the part of it outside some ranges."""
        topics = self.rows["kafka_topic_id"].to_numpy()
        partitions = self.rows["kafka_partition"].to_numpy()
        offsets = self.rows["kafka_offset"].to_numpy()
        keep = np.ones(self.rows.num_rows, dtype=bool)
        for each in refused:
            inside = (partitions == each.partition) & (offsets >= each.start) & (offsets < each.end)
            keep &= ~(inside & (topics == each.topic_id))
        return replace(self, rows=self.rows.filter(pa.array(keep)), covered=self.covered - refused)


@dataclass(frozen=True)
class WrittenDelivery:
    """A delivery whose rows lie in files that no snapshot has yet; the rows themselves have been let go.

    Attributes:
        files: They have the rows.
        layout: How the table lay when they were written.
        batch: What the ledger is to know of it.
        by_day: What it brings to each trading day.
        topic_names: As the delivery has them.
        run_id: Likewise.
        published_days: Likewise.
    """

    files: tuple[DataFile, ...]
    layout: Layout
    batch: Batch
    by_day: Mapping[date, DayReport]
    topic_names: Mapping[str, str]
    run_id: str
    published_days: frozenset[date]

    def read_again(self, table: Table, schema: pa.Schema) -> Delivery:
        """Return the delivery as it was, its rows read from their files.

        Args:
            table: The table that the files are of.
            schema: That of the rows.

        Raises:
            FilesGone: A file is not there, or not as it was written.
            K2Error: The files have more or fewer rows than were written.
        """
        require_whole(".".join(table.name()), table.io, self.files)
        rows = day_files.read_files(table, self.files, schema)
        if rows.num_rows != self.batch.messages:
            raise K2Error(
                f"{'.'.join(table.name())}: {self.batch.messages} rows were written and {rows.num_rows} are there in "
                f"{', '.join(file.file_path for file in self.files)}; their offsets are still pending"
            )
        return Delivery(
            rows=rows,
            covered=self.batch.covered,
            topic_names=self.topic_names,
            run_id=self.run_id,
            lost=self.batch.lost,
            truncated=self.batch.truncated,
            set_aside=self.batch.set_aside,
            published_days=self.published_days,
            batch_id=self.batch.batch_id,
        )


def written(delivery: Delivery, table: Table) -> WrittenDelivery:
    """Write a delivery's rows as files of a table, for a later commit."""
    return WrittenDelivery(
        files=tuple(day_files.write_day_files(table.metadata, table.io, delivery.rows)),
        layout=Layout.of(table),
        batch=delivery.batch(),
        by_day=reports_by_day(delivery.rows),
        topic_names=delivery.topic_names,
        run_id=delivery.run_id,
        published_days=delivery.published_days,
    )
