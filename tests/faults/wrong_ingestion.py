"""Ingestion done wrong, in ways that real systems have done it: what the simulated schedules must find."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import simulated_ingest
from confluent_kafka import KafkaError, Message
from dagster import DagsterRunStatus
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table, Transaction
from simulated_broker import SimulatedConsumer, SimulatedReader, event_message

from k2_assets.records import run_records
from k2_market.ledger.ledger import PROPERTY, Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.messages import block_decoder
from k2_market.plans import failed_runs
from k2_market.plans.failed_runs import ATTEMPTS_BEFORE_HALVING, FailedRun, Handling, Try
from k2_resources.iceberg import catalog as iceberg_catalog
from k2_resources.kafka.message_gathering import offset_of, partition_of
from k2_resources.raw import table as raw_table
from k2_resources.raw import view as raw_view
from k2_resources.raw.commit import Conflict
from k2_resources.raw.delivery import Delivery, WrittenDelivery
from k2_resources.raw.table import Commit, RawTable
from k2_resources.raw.view import ledger_of
from k2_sensors import kafka_sensor


class ReaderThatSkips(SimulatedReader):
    """Leaves out every seventh offset, as if it had been a hole."""

    def _consumer(self) -> Any:
        return _SkippingConsumer(self._broker)


class ReaderThatKnowsTopicsByName(SimulatedReader):
    """Looks at the topic's id before it reads and not after."""

    def _handed_out(self, gathered: Any, cursors: Any) -> Any:
        return gathered.batch(cursors)


class ReaderThatTrustsTheEnd(SimulatedReader):
    """Takes the end of a log for the end of its range."""

    def _consumer(self) -> Any:
        return _EndTrustingConsumer(self._broker)


class ReaderThatResets(SimulatedReader):
    """Goes on from the first retained offset where its own is gone, as ``auto.offset.reset=earliest`` does."""

    def _consumer(self) -> Any:
        return _ResettingConsumer(self._broker)


class _SkippingConsumer(SimulatedConsumer):
    def consume(self, most: int, timeout: float) -> list[Message]:
        found = super().consume(most, timeout)
        return [each for each in found if each.error() is not None or offset_of(each) % 7 < 6]


class _EndTrustingConsumer(SimulatedConsumer):
    def consume(self, most: int, timeout: float) -> list[Message]:
        return [_later(each) if _is_end(each) else each for each in super().consume(most, timeout)]


def _is_end(event: Message) -> bool:
    error = event.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _later(event: Message) -> Message:
    return event_message(partition_of(event), sys.maxsize, KafkaError._PARTITION_EOF)


class _ResettingConsumer(SimulatedConsumer):
    def _fetched_from(self, partition: int, most: int) -> Iterator[Message]:
        log = self._broker.log_of(partition)
        if log is not None and not log.low <= self._positions[partition] <= log.high:
            self._positions[partition] = log.low
        return super()._fetched_from(partition, most)


class _UnderWay(threading.local):
    """What this simulated process writes and commits.

    Attributes:
        batch_id: Of the commit that it is about.
        rows: Those of the deliveries that it wrote and has not committed yet.
    """

    batch_id: str | None = None

    def __init__(self) -> None:
        self.rows: list[pa.Table] = []


@contextmanager
def _known_deliveries() -> Iterator[_UnderWay]:
    under_way, write, attempt = _UnderWay(), RawTable.write, RawTable._attempt

    def known_write(table: RawTable, delivery: Delivery) -> WrittenDelivery:
        under_way.rows.append(delivery.rows)
        return write(table, delivery)

    def known_attempt(table: RawTable, deliveries: Sequence[WrittenDelivery]) -> Commit:
        under_way.batch_id = deliveries[0].batch.batch_id
        commit = attempt(table, deliveries)
        under_way.rows.clear()
        return commit

    with patch.object(RawTable, "write", known_write), patch.object(RawTable, "_attempt", known_attempt):
        yield under_way


@contextmanager
def ledgers_remembered() -> Iterator[None]:
    """A raw table looks at its ledger at the first attempt of a commit, and not again at the next."""
    look, seen = ledger_of, dict[str, Ledger]()
    with _known_deliveries() as under_way:

        def first_look(table: Table) -> Ledger:
            ledger = look(table)
            return ledger if under_way.batch_id is None else seen.setdefault(under_way.batch_id, ledger)

        with patch.object(raw_table, "ledger_of", first_look):
            yield


@contextmanager
def written_again() -> Iterator[None]:
    """A commit without an answer is taken for one that failed, and its rows are written again."""
    with _known_deliveries() as under_way:

        def settled(transaction: Transaction, catalog: Catalog, identifier: str, *_: object) -> Table:
            ledger = transaction.table_metadata.properties[PROPERTY]
            while True:
                try:
                    return transaction.commit_transaction()
                except CommitFailedException as conflict:
                    raise Conflict from conflict
                except Exception:
                    transaction = catalog.load_table(identifier).transaction()
                    for rows in under_way.rows:
                        transaction.append(rows)
                    transaction.set_properties({PROPERTY: ledger})

        with patch.object(raw_table, "commit_once", settled):
            yield


@contextmanager
def rows_before_ranges() -> Iterator[None]:
    """Rows are committed first, and after that which ranges they came from."""

    def settled(transaction: Transaction, *_: object) -> Table:
        ledger = transaction.table_metadata.properties[PROPERTY]
        transaction._updates = tuple(each for each in transaction._updates if each.action != "set-properties")
        try:
            table = transaction.commit_transaction()
            with table.transaction() as second:
                second.set_properties({PROPERTY: ledger})
        except CommitFailedException as conflict:
            raise Conflict from conflict
        return table

    with patch.object(raw_table, "commit_once", settled):
        yield


@contextmanager
def pyiceberg_retries() -> Iterator[None]:
    """Raw tables with pyiceberg's own commit retry, as by its default."""
    with patch.dict(iceberg_catalog._PROPERTIES, {"commit.retry.num-retries": "4"}):
        yield


@contextmanager
def dead_letters_dropped() -> Iterator[None]:
    """Messages that can't be read are skipped, as ``errors.tolerance=all`` does."""
    decode = block_decoder.decode

    def decode_good(*what: Any) -> pa.Table:
        rows = decode(*what)
        return rows.filter(rows["reject_reason"].is_null())

    with patch.object(block_decoder, "decode", decode_good):
        yield


@contextmanager
def days_not_reported() -> Iterator[None]:
    """The sensor does not look for commits whose run died before it could report them."""
    with patch.object(kafka_sensor, "report_unreported", lambda *_: []):
        yield


@contextmanager
def failed_runs_keep_their_ranges() -> Iterator[None]:
    """A run that failed counts as if it were still under way: nothing is lost or doubled, and nothing goes on."""
    with patch.object(run_records, "IN_FLIGHT", [*run_records.IN_FLIGHT, DagsterRunStatus.FAILURE]):
        yield


@contextmanager
def failed_runs_go_again_as_they_were() -> Iterator[None]:
    """A run that failed is made again with all that it carried, however often: one message stops its neighbours."""
    with patch.object(failed_runs, "ATTEMPTS_BEFORE_HALVING", sys.maxsize):
        yield


@contextmanager
def failed_ranges_set_aside() -> Iterator[None]:
    """What failed a few times is set aside with all that it carried, and nobody looks for the one message."""
    next_of = failed_runs._next_of

    def aside(ranges: RangeSet, left: RangeSet, suspects: Sequence[FailedRun]) -> Try:
        found = next_of(ranges, left, suspects)
        gone_wrong = found.attempt > ATTEMPTS_BEFORE_HALVING and found.handling is Handling.DECODE
        return Try(left, found.attempt, Handling.KEEP_BYTES, isolates=True) if gone_wrong else found

    with patch.object(failed_runs, "_next_of", aside):
        yield


@contextmanager
def set_aside_without_a_row() -> Iterator[None]:
    """What is set aside counts as ingested, and its bytes are in no row."""
    undecoded = block_decoder.undecoded
    with patch.object(block_decoder, "undecoded", lambda *what: undecoded(*what).slice(0, 0)):
        yield


@contextmanager
def rollbacks_not_noticed() -> Iterator[None]:
    """A ledger is believed whatever the table's history says, and rows are committed on top."""

    def believed(table: Table) -> Ledger:
        text = table.properties.get(PROPERTY)
        return Ledger() if text is None else Ledger.from_json(text)

    with patch.object(raw_table, "ledger_of", believed), patch.object(raw_view, "ledger_of", believed):
        yield


@contextmanager
def claims_believed() -> Iterator[None]:
    """What a run is told was cut off and lost is recorded, whether it is so or not."""
    with patch.object(simulated_ingest, "verified_claims", lambda claims, *_: claims):
        yield
