"""Ingests offset ranges: reads and decodes their messages, and commits rows and ranges together."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from k2_market.ledger.day_report import DayReport, merged
from k2_market.ledger.offset_ranges import RangeSet, named
from k2_market.messages import block_decoder
from k2_market.messages.batch import MessageBatch
from k2_market.messages.block_decoder import DayWindow
from k2_market.messages.writer_schemas import WriterSchema
from k2_market.plans.failed_runs import OffsetsAtFault
from k2_market.schemas.message_kinds import MessageKind
from k2_resources.kafka.schema_registry import SchemaRegistry, SchemaUnavailable
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.delivery import Delivery, WrittenDelivery
from k2_resources.raw.table import Commit, RawTable
from k2_resources.runtime import crash_points
from k2_resources.runtime.process import arrow_from_system, collector_paused
from k2_resources.runtime.read_ahead import read_ahead

BATCHES_PER_COMMIT = 4
"""A commit costs as much as decoding some 50,000 messages, and more of Python's lock than anything but reading."""

_MOST_CORRELATION_IDS = 20

_log = get_logger("ingest")

EMPTY_RANGES = RangeSet()
"""No offsets."""


@dataclass(frozen=True)
class Ingestion:
    """One run's way from a topic to its raw table.

    Attributes:
        feed: Name of the feed.
        topic: Name of the topic.
        reader: Reads the topic.
        registry: Knows the schemas that its messages were written with.
        table: The raw table.
        window: The trading days that the feed can have.
        published_days: Days whose trades have been published.
        run_id: The run, for logs and snapshots.
    """

    feed: str
    topic: str
    reader: TopicReader
    registry: SchemaRegistry
    table: RawTable
    window: DayWindow
    published_days: frozenset[date]
    run_id: str

    @property
    def kind(self) -> MessageKind:
        """Give what the topic's messages are."""
        return self.table.kind.messages

    def run(self, ranges: RangeSet, lost: RangeSet, truncated: RangeSet = EMPTY_RANGES) -> "IngestReport":
        """Ingest some ranges; those that are in the ledger already are not read.

        Args:
            ranges: What to read.
            lost: Offsets that retention removed, to be recorded with the first commit.
            truncated: Offsets of the ledger that the log does not reach any more, to be recorded likewise.

        Raises:
            OffsetsGone: They are not what the topic holds now: it was created anew, or its log is shorter.
        """
        for topic_id in sorted({topic_id for each in (ranges, lost, truncated) for topic_id, _ in each.spans}):
            self.reader.require_same_topic(topic_id)
        report = IngestReport()
        log = _log.bind(feed=self.feed, table=self.table.identifier, run_id=self.run_id)
        log.info("ingest run started", messages=len(ranges), ranges=[str(each) for each in ranges])
        wanted = ranges - self.table.ledger().settled
        # Three stages at once: the client reads, polars decodes and Parquet is written mostly without the GIL.
        with arrow_from_system(), collector_paused(), read_ahead(self._decoded(wanted, report)) as batches:
            for written in self._written(batches, lost, report):
                report.add(self._commit(written))
                lost = EMPTY_RANGES
                report.correlation_ids.update(*(each.correlation_ids for each in written))
        if lost or truncated:
            report.add(self._record(lost, truncated))
        log.info(
            "ingest run completed",
            messages=len(report.committed),
            days=[day.isoformat() for day in sorted(report.by_day)],
            **_named(report.correlation_ids),
        )
        return report

    def _record(self, lost: RangeSet, truncated: RangeSet) -> Commit:
        """Enter in the ledger what the broker lost, where no message is there for it to ride with."""
        ids = {topic_id for topic_id, _ in (*lost.spans, *truncated.spans)}
        names = dict.fromkeys(ids, self.topic)
        nothing = self.table.schema.empty_table()
        return self.table.commit(Delivery(nothing, EMPTY_RANGES, names, self.run_id, lost=lost, truncated=truncated))

    def _decoded(self, ranges: RangeSet, report: "IngestReport") -> Generator["DecodedBatch", None, None]:
        started = time.perf_counter()
        with closing(self.reader.read(ranges)) as batches:
            for read in batches:
                report.read_seconds += time.perf_counter() - started
                crash_points.reached("polled")
                started = time.perf_counter()
                with naming(self.topic, read.covered):
                    schemas = self._schemas_of(read.messages)
                    sizes = block_decoder.part_sizes(read.messages, self.kind, schemas)
                for part in [read] if len(sizes) == 1 else read.parts(sizes):
                    with naming(self.topic, part.covered):
                        rows = block_decoder.decode(part.messages, self.kind, schemas, self.window)
                    correlation_ids = {each for each in part.messages.correlation_ids if each is not None}
                    report.decode_seconds += time.perf_counter() - started
                    crash_points.reached("decoded")
                    decoded = [DecodedBatch(rows, part.covered, frozenset(correlation_ids))]
                    del part, rows
                    yield decoded.pop()
                    started = time.perf_counter()
                del read

    def _schemas_of(self, messages: MessageBatch) -> dict[int, WriterSchema]:
        try:
            return self.registry.writer_schemas(block_decoder.schema_ids(messages))
        except SchemaUnavailable as error:
            places = block_decoder.offsets_with_schema(messages, error.schema_id)
            raise OffsetsAtFault(f"{error}. They are those of {self.topic} at {named(places)}", places) from error

    def _written(
        self, batches: Iterable["DecodedBatch"], lost: RangeSet, report: "IngestReport"
    ) -> Iterator[Sequence["WrittenBatch"]]:
        """Yield batches as files, as many at a time as a commit takes.

        The first is committed alone, so that something is soon there to be seen. What was written before an error is
        committed before the error is raised.
        """
        waiting: list[WrittenBatch] = []
        most = 1
        try:
            for batch in batches:
                started = time.perf_counter()
                with naming(self.topic, batch.covered):
                    written = self.table.write(self._delivery(batch, lost))
                waiting.append(WrittenBatch(written, batch.correlation_ids))
                report.write_seconds += time.perf_counter() - started
                lost = EMPTY_RANGES
                del batch  # it is a tenth of the run's memory, and the next one may be long in coming
                if len(waiting) == most:
                    yield waiting
                    waiting, most = [], BATCHES_PER_COMMIT
        except Exception:
            if waiting:
                yield waiting
            raise
        if waiting:
            yield waiting

    def _delivery(self, batch: "DecodedBatch", lost: RangeSet) -> Delivery:
        return Delivery(
            rows=batch.rows,
            covered=batch.covered,
            topic_names={topic_id: self.topic for topic_id, _ in batch.covered.spans},
            run_id=self.run_id,
            lost=lost,
            published_days=self.published_days,
        )

    def _commit(self, written: Sequence["WrittenBatch"]) -> Commit:
        commit = self.table.commit_written([each.delivery for each in written])
        _log.info(
            "raw rows committed",
            feed=self.feed,
            table=self.table.identifier,
            run_id=self.run_id,
            batch_id=commit.batch.batch_id,
            snapshot_id=commit.snapshot_id,
            rows=commit.batch.messages,
            dead_letters=commit.batch.dead_letters,
            ranges=[str(each) for each in commit.batch.covered],
            **_named(frozenset().union(*(each.correlation_ids for each in written))),
            commit_ms=round(commit.seconds * 1000, 1),
        )
        return commit


@contextmanager
def naming(topic: str, ranges: RangeSet) -> Iterator[None]:
    """Have whatever the block raises name the offsets that it was at."""
    try:
        yield
    except Exception as error:
        error.add_note(f"It happened with messages of {topic} at {named(ranges)}.")
        raise


@dataclass(frozen=True)
class DecodedBatch:
    """Rows that are ready to be committed.

    Attributes:
        rows: In the raw table's schema.
        covered: The offsets that they account for.
        correlation_ids: Those of their producers.
    """

    rows: pa.Table
    covered: RangeSet
    correlation_ids: frozenset[str]


@dataclass(frozen=True)
class WrittenBatch:
    """A batch whose rows are files that wait for their commit.

    Attributes:
        delivery: The files, and the offsets that they account for.
        correlation_ids: Those of their producers.
    """

    delivery: WrittenDelivery
    correlation_ids: frozenset[str]


@dataclass
class IngestReport:
    """Describes what an ingest run did.

    Attributes:
        by_day: What came for each trading day.
        committed: Offset ranges entered in the ledger.
        late_rows: Rows that came for published days.
        refused: Offsets that another run had committed in the meantime.
        snapshot_id: The raw table's last snapshot.
        correlation_ids: Those of the producers whose messages were read.
        read_seconds: Waited for messages.
        decode_seconds: Spent on decoding.
        write_seconds: On writing files.
        commit_seconds: On commits.
    """

    by_day: dict[date, DayReport] = field(default_factory=dict)
    committed: RangeSet = field(default_factory=RangeSet)
    refused: RangeSet = field(default_factory=RangeSet)
    late_rows: int = 0
    snapshot_id: int | None = None
    correlation_ids: set[str] = field(default_factory=set)
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    write_seconds: float = 0.0
    commit_seconds: float = 0.0

    def add(self, commit: Commit) -> None:
        """Enter what a commit did."""
        self.by_day = merged([self.by_day, commit.by_day])
        self.committed = self.committed | commit.batch.covered
        self.refused = self.refused | commit.refused
        self.late_rows += commit.batch.late_rows
        self.snapshot_id = commit.snapshot_id or self.snapshot_id
        self.commit_seconds += commit.seconds


def _named(correlation_ids: Set[str]) -> dict[str, object]:
    """Return correlation ids for a log line, which names so many and counts the others."""
    in_order = sorted(correlation_ids)
    return {
        "correlation_ids": in_order[:_MOST_CORRELATION_IDS],
        "other_correlation_ids": max(0, len(in_order) - _MOST_CORRELATION_IDS),
    }
