"""How many batches a commit has, and what becomes of those that wait for one when something fails."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from avro_messages import DAYS, OPEN_MS, SCHEMA_ID, TOPIC_ID, message, trade

from k2_assets import ingestion
from k2_assets.ingestion import BATCHES_PER_COMMIT, Ingestion, IngestReport
from k2_market.avro_schemas import TRADE
from k2_market.message_batch import MessageBatch
from k2_market.offset_ranges import OffsetRange, RangeSet
from k2_resources.iceberg_catalog import open_catalog
from k2_resources.kafka_topics import KafkaUnavailable
from k2_resources.message_gathering import ReadBatch
from k2_resources.raw_table import RawTable
from k2_resources.schema_registry import SchemaRegistry
from k2_resources.topic_reader import TopicReader

PER_BATCH = 3


class NoBroker(TopicReader):
    """A reader of batches of trades that were never in a broker."""

    def __init__(self, batches: int, error: BaseException | None) -> None:
        super().__init__("nowhere:1", "trades", "test")
        self._batches = batches
        self._error = error

    def require_same_topic(self, topic_id: str) -> None:
        assert topic_id == TOPIC_ID

    def read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        for number in range(self._batches):
            yield batch(number)
        if self._error is not None:
            raise self._error


class NoRegistry(SchemaRegistry):
    """A registry that knows the schema of trades."""

    def __init__(self) -> None:
        super().__init__("http://nowhere:1")

    def writer_schemas(self, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        return {SCHEMA_ID: TRADE}


def batch(number: int) -> ReadBatch:
    offsets = list(range(number * PER_BATCH, (number + 1) * PER_BATCH))
    messages = MessageBatch(
        topic_id=TOPIC_ID,
        partitions=[0] * PER_BATCH,
        offsets=offsets,
        timestamps_ms=[OPEN_MS] * PER_BATCH,
        keys=[b"BHP"] * PER_BATCH,
        values=[message(trade(trade_id=f"t{offset}")) for offset in offsets],
        correlation_ids=[f"load-{number}"] * PER_BATCH,
    )
    return ReadBatch(messages, of(offsets[0], offsets[-1] + 1))


def of(start: int, end: int) -> RangeSet:
    return RangeSet.of([OffsetRange(TOPIC_ID, 0, start, end)])


def table_in(home: Path) -> RawTable:
    return RawTable(open_catalog(f"sqlite:///{home}/catalog.db", f"file://{home}/warehouse"), "asx")


def ingested(
    table: RawTable, batches: int, error: Exception | None = None, lost: RangeSet = ingestion.NONE
) -> IngestReport:
    run = Ingestion(
        feed="asx",
        topic="trades",
        reader=NoBroker(batches, error),
        registry=NoRegistry(),
        table=table,
        window=DAYS,
        published_days=frozenset(),
        run_id="run",
    )
    return run.run(of(0, 1_000), lost)


def commits(table: RawTable) -> list[int]:
    """The rows of each commit."""
    found = table.view().table
    assert found is not None
    return [int((snapshot.summary or {})["added-records"] or 0) for snapshot in found.snapshots()]


@pytest.mark.parametrize(
    ("batches", "expected"), [(1, [1]), (2, [1, 1]), (BATCHES_PER_COMMIT + 1, [1, BATCHES_PER_COMMIT]), (8, [1, 4, 3])]
)
def test_the_first_batch_is_committed_alone_and_those_after_it_together(
    batches: int, expected: list[int], tmp_path: Path
) -> None:
    table = table_in(tmp_path)
    report = ingested(table, batches)
    assert commits(table) == [each * PER_BATCH for each in expected]
    assert report.committed == table.ledger().covered == of(0, batches * PER_BATCH)
    assert sum(day.rows for day in report.by_day.values()) == table.view().rows == batches * PER_BATCH
    assert report.correlation_ids == {f"load-{number}" for number in range(batches)}


@pytest.mark.parametrize("batches", range(7))
def test_what_was_read_before_reading_failed_is_committed_before_the_run_fails(batches: int, tmp_path: Path) -> None:
    table = table_in(tmp_path)
    with pytest.raises(KafkaUnavailable, match="no answer"):
        ingested(table, batches, KafkaUnavailable("no answer"))
    assert table.ledger().covered == (of(0, batches * PER_BATCH) if batches else RangeSet())
    assert table.view().rows == table.ledger().messages == batches * PER_BATCH


def test_an_interrupted_run_leaves_what_waits_for_its_commit_pending(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingested(table, 3, KeyboardInterrupt())
    assert table.ledger().covered == of(0, PER_BATCH)
    assert table.view().rows == PER_BATCH


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_what_retention_removed_is_recorded_once_whether_messages_came_or_not(batches: int, tmp_path: Path) -> None:
    table, lost = table_in(tmp_path), of(900, 950)
    ingested(table, batches, lost=lost)
    assert table.ledger().lost == lost
    assert len(commits(table)) == max(1, min(batches, 2))
