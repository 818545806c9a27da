"""Reads the rows of a raw table's current snapshot some files at a time, so that any table fits in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_market.verification.offset_accounts import LOG, RANGE_COLUMNS, intersection, ranges, ranges_of_offsets
from k2_resources.iceberg.day_files import read_files

ROWS_PER_CHUNK = 50_000

Window = dict[int, tuple[int, int]]
"""Offsets of one topic: partition to its ``(start, end)``."""

_OFFSET = {"kafka_topic_id": "topic_id", "kafka_partition": "partition", "kafka_offset": "offset"}


@dataclass
class RowChunks:
    """Data files in groups of about ``ROWS_PER_CHUNK`` rows; a larger file is a chunk of its own.

    Attributes:
        table: The table that they belong to.
        columns: Its columns.
        chunks: The groups.
        damaged: Why files could not be read, by path; their rows are left out.
        ranges: The offsets of each group's rows, once ``offsets`` has gone through them.
    """

    table: Table
    columns: pa.Schema
    chunks: list[list[DataFile]]
    damaged: dict[str, str] = field(default_factory=dict)
    ranges: list[pl.DataFrame] = field(default_factory=list)
    _last_read: dict[int, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Table, columns: pa.Schema, files: Sequence[DataFile]) -> "RowChunks":
        """Return the chunks of some files, which stay in order."""
        chunks: list[list[DataFile]] = []
        room = 0
        for each in files:
            if room < each.record_count or not chunks:
                chunks.append([])
                room = ROWS_PER_CHUNK
            chunks[-1].append(each)
            room -= each.record_count
        return cls(table, columns, chunks)

    def offsets(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield the ranges of each chunk's rows, and of its dead letters; goes through all chunks once."""
        for number in range(len(self.chunks)):
            rows = self._read(number, (*_OFFSET, "reject_reason")).rename(_OFFSET)
            found = ranges_of_offsets(rows)
            self.ranges.append(found)
            yield found, ranges_of_offsets(rows.filter(pl.col("reject_reason").is_not_null()))

    def rows(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all rows, a chunk at a time."""
        for number in range(len(self.chunks)):
            yield self._read(number, columns)

    def rows_within(self, topic_id: str, window: Window, columns: Sequence[str]) -> pl.DataFrame:
        """Return the rows whose offsets lie in a window; groups that the window before needed too are not read again.

        Args:
            topic_id: Whose offsets these are.
            window: The window.
            columns: What is read of the rows.
        """
        spans = ranges((topic_id, partition, start, end) for partition, (start, end) in window.items())
        known = (each.with_columns(chunk=pl.lit(number)) for number, each in enumerate(self.ranges))
        beside = pl.concat([ranges([]).with_columns(chunk=pl.lit(0)), *known]).join(spans, on=LOG, suffix="_of_window")
        overlaps = (pl.col("start") < pl.col("end_of_window")) & (pl.col("end") > pl.col("start_of_window"))
        wanted = beside.filter(overlaps)["chunk"].unique().sort().to_list()
        self._last_read = {
            number: self._last_read[number] if number in self._last_read else self._read(number, columns)
            for number in wanted
        }
        limits = spans.select(
            pl.col("topic_id").alias("kafka_topic_id"), pl.col("partition").alias("kafka_partition"), "start", "end"
        )
        inside = pl.col("kafka_offset").is_between("start", "end", closed="left")
        frames = [
            each.join(limits, on=["kafka_topic_id", "kafka_partition"]).filter(inside).drop("start", "end")
            for each in self._last_read.values()
        ]
        return pl.concat(frames) if frames else _frame(self._schema(columns).empty_table())

    def rows_at(self, places: pl.DataFrame) -> pl.DataFrame:
        """Return the ranges of all rows of the table, of whatever day, that lie in some ranges."""
        hulls = places.group_by("partition").agg(pl.col("start").min(), pl.col("end").max())
        where = " or ".join(
            f"(kafka_partition = {partition} and kafka_offset >= {start} and kafka_offset < {end})"
            for partition, start, end in hulls.iter_rows()
        )
        if not where:
            return ranges([])
        tasks = self.table.scan(row_filter=where).plan_files()
        files = [each.file for each in tasks if not self._damaged(each.file, tuple(_OFFSET))]
        found = self._read_files(files, tuple(_OFFSET)).rename(_OFFSET)
        return intersection(ranges_of_offsets(found.unique()), places)

    def _read(self, number: int, columns: Sequence[str]) -> pl.DataFrame:
        try:
            return self._read_files(self.chunks[number], columns)
        except (OSError, pa.ArrowException):
            sound = [each for each in self.chunks[number] if not self._damaged(each, columns)]
            self.chunks[number] = sound
            return self._read_files(sound, columns)

    def _damaged(self, file: DataFile, columns: Sequence[str]) -> bool:
        try:
            self._read_files([file], columns)
        except (OSError, pa.ArrowException) as fault:
            self.damaged[file.file_path] = repr(fault)
            return True
        return False

    def _read_files(self, files: Sequence[DataFile], columns: Sequence[str]) -> pl.DataFrame:
        return _frame(read_files(self.table, files, self._schema(columns)))

    def _schema(self, columns: Sequence[str]) -> pa.Schema:
        return pa.schema([self.columns.field(name) for name in columns])


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def windows(spans: pl.DataFrame, offsets: int) -> Iterator[Window]:
    """Yield spans of one topic's partitions cut into windows, side by side, so that all partitions go forward together.

    Args:
        spans: Disjoint ranges of one topic; several of a partition come one after the other.
        offsets: As many offsets a window holds, or some more.

    Example:
        >>> spans = ranges([("t", 0, 0, 100), ("t", 1, 0, 50), ("t", 0, 1000, 1010)])
        >>> list(windows(spans, 80))
        [{0: (0, 50), 1: (0, 25)}, {0: (50, 100), 1: (25, 50)}, {0: (1000, 1010)}]
    """
    by_partition: dict[int, list[tuple[int, int]]] = {}
    for _, partition, start, end in spans.select(*RANGE_COLUMNS).sort("partition", "start").iter_rows():
        by_partition.setdefault(partition, []).append((start, end))
    for number in range(max(map(len, by_partition.values()), default=0)):
        layer = {partition: each[number] for partition, each in by_partition.items() if len(each) > number}
        parts = -(-sum(end - start for start, end in layer.values()) // offsets)
        for part in range(parts):
            cut = {
                partition: (start + (end - start) * part // parts, start + (end - start) * (part + 1) // parts)
                for partition, (start, end) in layer.items()
            }
            yield {partition: (start, end) for partition, (start, end) in cut.items() if end > start}
