"""What real code finds around it in a simulation: its clock, its unique ids, and a pyiceberg without threads.

Of pyiceberg, what costs much and decides nothing is left out: copies of values that never change, a comparison of
schemas that is the same each time, and Parquet (``real_files`` leaves all of these in).
"""

import contextlib
import logging
import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pyiceberg.io.pyarrow
import pyiceberg.table
import pyiceberg.table.snapshots
import tenacity
import tenacity.nap
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import update_table_metadata
from pyiceberg.utils.concurrent import ExecutorFactory
from simulated_files import arrow_data_files, read_arrow_files, write_arrow_files
from simulated_turns import SimulatedTime, Turns

from k2_assets import ingestion
from k2_resources.iceberg import day_files
from k2_resources.kafka import topic_reader
from k2_resources.kafka import topics as kafka_topics


@contextmanager
def simulated_surroundings(turns: Turns, epoch: float, *, real_files: bool = False) -> Iterator[None]:
    """Put real code into a simulation, for as long as the block lasts."""
    clock = SimulatedTime(turns, epoch)
    state = random.getstate()
    with ExitStack() as stack:
        for module in (tenacity, tenacity.nap, pyiceberg.table, pyiceberg.table.snapshots, topic_reader):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(kafka_topics, "_RETRY", replace(kafka_topics._RETRY, sleep=turns.sleep)))
        stack.enter_context(
            patch.object(uuid, "uuid4", lambda: uuid.UUID(int=turns.random.getrandbits(128), version=4))
        )
        stack.enter_context(patch.object(ExecutorFactory, "get_or_create", InPlace))
        # Turns are what interleaves here: no thread of the reader's own, and one collector for all processes.
        for module in (topic_reader, ingestion):
            stack.enter_context(patch.object(module, "read_ahead", contextlib.closing))
        for name in ("collector_paused", "arrow_from_system"):
            stack.enter_context(patch.object(ingestion, name, contextlib.nullcontext))
        if not real_files:
            for immutable in (Schema, PartitionSpec, SortOrder, Snapshot):
                stack.enter_context(patch.object(immutable, "__deepcopy__", _itself))
            stack.enter_context(patch.object(Transaction, "table_metadata", property(_metadata_once)))
            stack.enter_context(patch.object(Schema, "as_arrow", _once(Schema.as_arrow)))
            stack.enter_context(patch.object(pyiceberg.io.pyarrow, "_check_pyarrow_schema_compatible", _agree))
            stack.enter_context(patch.object(pyiceberg.io.pyarrow, "_dataframe_to_data_files", arrow_data_files))
            stack.enter_context(patch.object(day_files, "write_day_files", write_arrow_files))
            stack.enter_context(patch.object(day_files, "read_files", read_arrow_files))
        random.seed(turns.random.getrandbits(64))
        silenced = logging.root.manager.disable
        logging.disable()  # nobody reads it, and pytest would keep all of it
        try:
            yield
        finally:
            logging.disable(silenced)
            random.setstate(state)


class InPlace(Executor):
    """Runs what it is given where it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        return map(fn, *iterables)


def _itself(value: Any, _: object = None) -> Any:
    return value


def _agree(*_: object, **__: object) -> None:
    return None


def _metadata_once(transaction: Transaction) -> TableMetadata:
    """A transaction's metadata as it stands, computed anew only when something was staged."""
    base, updates = transaction._table.metadata, transaction._updates
    known = transaction.__dict__.get("_known")
    if known is None or known[0] is not base or known[1] is not updates:
        known = transaction.__dict__["_known"] = (base, updates, update_table_metadata(base, updates))
    metadata: TableMetadata = known[2]
    return metadata


def _once(as_arrow: Callable[[Schema], Any]) -> Callable[[Schema], Any]:
    def remembered(schema: Schema) -> Any:
        if "_arrow" not in schema.__dict__:
            schema.__dict__["_arrow"] = as_arrow(schema)
        return schema.__dict__["_arrow"]

    return remembered
