"""Writes a query's answer as a table, CSV, JSON or Parquet, to the terminal or to a file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from k2_cli.output.exact_values import json_values, texts
from k2_market.errors import K2Error

if TYPE_CHECKING:
    from k2_resources.query.answer import Answer


class AnswerFormat(StrEnum):
    """The formats there are."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class OutputError(K2Error):
    """An answer can't be written where it was asked to go."""


def write_answer(
    answer: Answer, form: AnswerFormat, output: Path | None, table_rows: int, *, replace: bool = False
) -> None:
    """Write an answer: CSV with a header, JSON as an array of objects, Parquet, or its first rows as a table.

    Args:
        answer: The rows; they are written as they arrive.
        form: The format.
        output: The file, which appears whole or not at all; standard output if absent.
        table_rows: How many rows a table shows; 0 shows all.
        replace: Whether a file that is there is replaced.

    Raises:
        OutputError: The file is there or can't be written, or Parquet was to go to a terminal.
        QueryError: The rows can't be computed.
    """
    if output is not None and output.exists() and not replace:
        raise OutputError(f"{output}: there is such a file already; nothing was written. --force replaces it")
    match form:
        case AnswerFormat.TABLE:
            with _text_sink(output) as sink:
                _write_table(answer, sink, table_rows)
        case AnswerFormat.CSV:
            if output is None and isinstance(sys.stdout, TextIOWrapper):
                # For programs, as files are: what a terminal of another encoding can't show is data all the same.
                sys.stdout.reconfigure(encoding="utf-8")
            with _text_sink(output) as sink:
                _write_csv(answer, sink)
        case AnswerFormat.JSON:
            with _text_sink(output) as sink:
                _write_json(answer, sink)
        case AnswerFormat.PARQUET:
            with _binary_sink(output) as sink:
                _write_parquet(answer, sink)
    if output is not None:
        print(f"{output}: {output.stat().st_size:,} bytes of {form} written", file=sys.stderr)


def _write_table(answer: Answer, sink: TextIO, rows: int) -> None:
    from rich.console import Console

    from k2_cli.output.table_display import show_answer

    show_answer(answer, rows, Console(file=sink, highlight=False))


def _write_csv(answer: Answer, sink: TextIO) -> None:
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(answer.schema.names)
    for batch in answer.batches:
        writer.writerows(zip(*map(texts, batch.columns), strict=True))


def _write_json(answer: Answer, sink: TextIO) -> None:
    names = answer.schema.names
    separator = "[\n"
    for batch in answer.batches:
        for row in zip(*map(json_values, batch.columns), strict=True):
            sink.write(separator + json.dumps(dict(zip(names, row, strict=True))))
            separator = ",\n"
    sink.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_parquet(answer: Answer, sink: BinaryIO) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(sink, answer.schema, compression="zstd") as writer:
        for batch in answer.batches:
            writer.write_batch(batch)


@contextmanager
def _text_sink(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with _appearing(output) as path, path.open("w", encoding="utf-8", newline="") as sink:
        yield sink


@contextmanager
def _binary_sink(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        if sys.stdout.isatty():
            raise OutputError("Parquet is not written to a terminal. Give --output FILE, or redirect the output.")
        yield sys.stdout.buffer
        return
    with _appearing(output) as path, path.open("wb") as sink:
        yield sink


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """Give a path beside ``output`` that takes its place when all went well."""
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(output)
    except OSError as error:
        raise OutputError(f"{output}: can't be written: {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
