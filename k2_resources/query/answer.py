"""Runs a reading statement: gives its columns, and its rows in batches as they are asked for."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import pyarrow as pa

from k2_resources.query.reading_statement import QueryError, ReadingStatement

_BATCH_ROWS = 50_000
_LISTENS_EVERY_SECONDS = 0.1
_INTERRUPTED = "INTERRUPT Error"
_SEARCHES_FOR_A_CAUSE = 5
# DuckDB's errors behind an Arrow reader arrive as OSError.
_FAILURES = (duckdb.Error, pa.ArrowException, OSError)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer:
    """The answer to a statement.

    Attributes:
        schema: Its columns, in order; no two have the same name.
        batches: Its rows, once: they are computed while they are read. Raises ``QueryError`` where that fails.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def table(self) -> pa.Table:
        """Return all rows at once."""
        return pa.Table.from_batches(self.batches, self.schema)


def run_statement(
    connection: duckdb.DuckDBPyConnection, statement: ReadingStatement, parameters: Mapping[str, object]
) -> Answer:
    """Run a statement with its ``$name`` parameters bound to values.

    Args:
        connection: A sealed connection with the views.
        statement: What to run.
        parameters: A value for each of its parameters. Text is taken as the type that it is compared with.

    Raises:
        QueryError: A parameter has no value or a value no parameter, or DuckDB refuses the statement or fails in
            running it (its own message is kept).
    """
    _check_parameters(statement, parameters)
    worker = _Worker(connection)

    def started() -> pa.RecordBatchReader:
        return connection.execute(statement.sql, dict(parameters)).to_arrow_reader(_BATCH_ROWS)

    try:
        reader = worker.run(started)
    except duckdb.Error as error:
        raise QueryError(f"SQL: {error}") from error
    schema = pa.schema(
        [column.with_name(name) for column, name in zip(reader.schema, _distinct(reader.schema.names), strict=True)]
    )
    return Answer(schema, _read(reader, schema, worker, started))


class _Worker:
    """Has DuckDB work in a thread of its own, so that Ctrl-C is heard and stops it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1)
        # Ctrl-C while a thread is started would lose sight of it: it starts before there is work.
        self._thread.submit(lambda: None).result()

    def run(self, work: Callable[[], _Result]) -> _Result:
        try:
            future = self._thread.submit(work)
            # A wait without end can sleep through a signal that arrives as it begins.
            while wait([future], timeout=_LISTENS_EVERY_SECONDS).not_done:
                pass
            return future.result()
        except KeyboardInterrupt:
            self._stop()
            raise

    def _stop(self) -> None:
        stopped = self._thread.submit(lambda: None)
        # DuckDB forgets an interrupt that comes before a statement has started.
        while wait([stopped], timeout=_LISTENS_EVERY_SECONDS).not_done:
            self._connection.interrupt()


def _check_parameters(statement: ReadingStatement, parameters: Mapping[str, object]) -> None:
    missing = sorted(statement.parameters - parameters.keys())
    if missing:
        raise QueryError(f"SQL: no value was given for {', '.join(f'${name}' for name in missing)}.")
    unused = sorted(parameters.keys() - statement.parameters)
    if unused:
        raise QueryError(f"SQL: values were given for {', '.join(f'${name}' for name in unused)}, which do not occur.")


def _read(
    reader: pa.RecordBatchReader, schema: pa.Schema, worker: _Worker, again: Callable[[], pa.RecordBatchReader]
) -> Iterator[pa.RecordBatch]:
    try:
        while (batch := worker.run(lambda: next(reader, None))) is not None:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
    except _FAILURES as error:
        raise QueryError(f"SQL: {_cause(error, worker, again)}") from error


def _cause(error: Exception, worker: _Worker, again: Callable[[], pa.RecordBatchReader]) -> Exception:
    """Find the error behind an interrupt that nobody asked for, by running the statement again.

    When one of DuckDB's threads fails, it interrupts the others, and now and then an interrupted thread is heard first.
    """
    for _ in range(_SEARCHES_FOR_A_CAUSE):
        if not str(error).startswith(_INTERRUPTED):
            break
        try:
            worker.run(lambda: deque(again(), maxlen=0))
        except _FAILURES as found:
            error = found
    return error


def _distinct(names: list[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        distinct, number = name, 1
        while distinct in taken:
            number += 1
            distinct = f"{name}_{number}"
        taken.add(distinct)
        yield distinct
