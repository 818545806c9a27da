"""How many batches a commit has, and what becomes of those that wait for one when something fails."""

import tempfile
from collections.abc import Generator, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from avro_messages import DAYS, OPEN_MS, SCHEMA_ID, TOPIC_ID, message, trade
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_assets import ingestion
from k2_assets.ingestion import BATCHES_PER_COMMIT, Ingestion, IngestReport
from k2_assets.setting_aside import set_aside
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.batch import MessageBatch
from k2_market.messages.framing import frame
from k2_market.plans.failed_runs import Handling, OffsetsAtFault
from k2_market.schemas.avro import TRADE
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.message_gathering import ReadBatch
from k2_resources.kafka.schema_registry import SchemaRegistry, SchemaUnavailable
from k2_resources.kafka.topic_reader import TopicReader, Unreadable
from k2_resources.kafka.topics import KafkaUnavailable
from k2_resources.raw.table import RawTable

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
    return RawTable(open_catalog(f"sqlite:///{home}/catalog.db", f"file://{home}/warehouse"), "asx", TRADES)


def ingested(
    table: RawTable, batches: int, error: Exception | None = None, lost: RangeSet = ingestion.EMPTY_RANGES
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


class HardToRead(NoBroker):
    """A reader of a partition of which some offsets can't be read, and which others have no message."""

    def __init__(self, end: int, unreadable: set[int], holes: set[int]) -> None:
        super().__init__(0, None)
        self._end = end
        self._unreadable = unreadable
        self._holes = holes

    def carefully(self) -> "HardToRead":
        return self

    def read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
        for each in ranges:
            bad = next((offset for offset in range(each.start, each.end) if offset in self._unreadable), None)
            stop = each.end if bad is None else bad
            if stop > each.start:
                yield self._batch(each.start, stop)
            if bad is not None:
                again = next(offset for offset in range(bad, self._end + 1) if offset not in self._unreadable)
                raise Unreadable(f"can't read at {bad}", of(bad, again))

    def _batch(self, start: int, stop: int) -> ReadBatch:
        offsets = [offset for offset in range(start, stop) if offset not in self._holes]
        values = [b"bytes of %d" % offset for offset in offsets]
        count = len(offsets)
        messages = MessageBatch(
            TOPIC_ID, [0] * count, offsets, [OPEN_MS] * count, [b"key"] * count, values, [None] * count
        )
        return ReadBatch(messages, of(start, stop))


def ingestion_of(table: RawTable, reader: TopicReader, registry: SchemaRegistry | None = None) -> Ingestion:
    return Ingestion("asx", "trades", reader, registry or NoRegistry(), table, DAYS, frozenset(), "run")


@given(st.integers(1, 12), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
@settings(max_examples=8, deadline=None)
def test_what_is_set_aside_becomes_dead_letters_with_their_bytes_as_far_as_it_can_be_read(
    end: int, unreadable: set[int], holes: set[int]
) -> None:
    unreadable = {offset for offset in unreadable if offset < end}
    holes -= unreadable
    with tempfile.TemporaryDirectory() as home:
        table = table_in(Path(home))
        reader = HardToRead(end, unreadable, holes)
        set_aside(ingestion_of(table, reader), of(0, end), Handling.KEEP_BYTES, 7)
        ledger, rows = table.ledger(), rows_of(table)
        messages = sorted(set(range(end)) - unreadable - holes)
        assert [(row["kafka_offset"], row["payload"]) for row in rows] == [(n, b"bytes of %d" % n) for n in messages]
        assert {row["reject_reason"] for row in rows} <= {"set aside after 7 failed attempts"}
        assert ledger.covered == RangeSet.of(each for n in set(range(end)) - unreadable for each in of(n, n + 1))
        assert ledger.set_aside == RangeSet.of(each for n in set(range(end)) - holes for each in of(n, n + 1))
        assert ledger.settled == of(0, end)
        assert ledger.dead_letters == ledger.messages == len(messages)


def test_what_is_not_even_to_be_read_is_noted_in_the_ledger_and_can_come_in_later(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    set_aside(ingestion_of(table, NoBroker(0, None)), of(0, PER_BATCH), Handling.SKIP, 8)
    assert (table.ledger().unread, table.view().rows) == (of(0, PER_BATCH), 0)
    set_aside(ingestion_of(table, NoBroker(0, None)), of(0, PER_BATCH), Handling.SKIP, 8)
    assert len(table.view().table.snapshots()) == 1, "nothing new is not written again"  # type: ignore[union-attr]
    reader = HardToRead(PER_BATCH, set(), set())
    assert not ingestion_of(table, reader).run(of(0, PER_BATCH), ingestion.EMPTY_RANGES).committed, (
        "it is not read again"
    )
    had_read_before = NoBroker(1, None)
    assert ingestion_of(table, had_read_before).run(of(0, PER_BATCH), ingestion.EMPTY_RANGES).committed == of(
        0, PER_BATCH
    )
    assert (table.ledger().set_aside, table.view().rows) == (RangeSet(), PER_BATCH)


def test_what_another_run_has_decoded_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    ingested(table, 1)
    for handling in (Handling.KEEP_BYTES, Handling.SKIP):
        set_aside(ingestion_of(table, HardToRead(PER_BATCH, set(), set())), of(0, PER_BATCH), handling, 7)
    assert table.ledger().set_aside == RangeSet()
    assert (table.view().rows, table.ledger().dead_letters) == (PER_BATCH, 0)


class RefusesAnId(SchemaRegistry):
    """A registry that has no answer for one id."""

    def __init__(self) -> None:
        super().__init__("http://nowhere:1")

    def writer_schemas(self, ids: Iterable[int]) -> dict[int, Any]:
        if 9 in ids:
            raise SchemaUnavailable("no answer for schema id 9", 9)
        return {SCHEMA_ID: TRADE}


def test_messages_of_a_schema_that_can_not_be_had_are_named_by_their_offsets(tmp_path: Path) -> None:
    class Mixed(NoBroker):
        def read(self, ranges: RangeSet) -> Generator[ReadBatch, None, None]:
            yield batch(0)
            values = [message(trade()), frame(9, b"x"), None, frame(9, b"y")]
            places = [0] * 4, [10, 11, 12, 14]
            yield ReadBatch(MessageBatch(TOPIC_ID, *places, [OPEN_MS] * 4, [b"k"] * 4, values, [None] * 4), of(10, 15))

    table = table_in(tmp_path)
    with pytest.raises(OffsetsAtFault, match="no answer for schema id 9") as raised:
        ingestion_of(table, Mixed(0, None), RefusesAnId()).run(of(0, 15), ingestion.EMPTY_RANGES)
    assert raised.value.ranges == of(11, 12) | of(14, 15)
    assert table.ledger().covered == of(0, PER_BATCH), "what was read before is committed"


def test_an_error_that_nobody_foresaw_names_topic_and_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(ingestion.block_decoder, "decode", fails)
    with pytest.raises(MemoryError) as raised:
        ingested(table_in(tmp_path), 1)
    assert raised.value.__notes__ == [f"It happened with messages of trades at {TOPIC_ID}/0[0,3)."]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=30), st.data())
def test_the_parts_of_a_batch_cover_what_it_covers_and_each_its_own_messages(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    position = dict.fromkeys(range(3), 5)
    places = []
    for partition, step in steps:
        position[partition] += step
        places.append((partition, position[partition] - 1))
    count = len(places)
    messages = MessageBatch(
        TOPIC_ID,
        [p for p, _ in places],
        [o for _, o in places],
        [0] * count,
        [None] * count,
        [b""] * count,
        [None] * count,
    )
    ends = {partition: end + data.draw(st.integers(0, 3)) for partition, end in position.items()}
    whole = ReadBatch(messages, RangeSet.of(OffsetRange(TOPIC_ID, p, 5, e) for p, e in ends.items() if e > 5))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, count - 1)), max_size=4))) if count > 1 else []
    sizes = [b - a for a, b in pairwise([0, *cuts, count])]
    parts = list(whole.parts(sizes))
    assert [len(part.messages) for part in parts] == sizes
    assert [o for part in parts for o in part.messages.offsets] == [o for _, o in places]
    assert RangeSet.of(each for part in parts for each in part.covered) == whole.covered
    assert sum(len(part.covered) for part in parts) == len(whole.covered)
    for part in parts:
        assert all(
            part.covered.contains(TOPIC_ID, p, o)
            for p, o in zip(part.messages.partitions, part.messages.offsets, strict=True)
        )


def rows_of(table: RawTable) -> list[dict[str, Any]]:
    found = table.view().table
    assert found is not None
    return sorted(found.scan().to_arrow().to_pylist(), key=lambda row: row["kafka_offset"])
