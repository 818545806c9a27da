"""Reads a delimited text file as text columns, and names file, row and column of a wrong value."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow_csv

from k2_market.errors import SourceFileError
from k2_market.sources.file_kinds import foreign_kind, other_separator
from k2_market.values.plain_texts import WHITE_SPACE


@dataclass(frozen=True)
class SourceTable:
    """A file's columns, all text, nothing missing: every row has every column, if only as ``""``.

    Texts and names of columns come without the white space around them.

    Attributes:
        file: The file's name, for errors.
        columns: The texts, in file order.
        content: The whole file, to find row numbers in.
        has_header: Whether the file's first row holds the names.
    """

    file: str
    columns: pl.DataFrame
    content: bytes = field(repr=False)
    has_header: bool

    @classmethod
    def with_header(cls, content: bytes, file: str, required: Sequence[str], optional: Sequence[str]) -> "SourceTable":
        """Return a file whose first row names its columns, in any order.

        Raises:
            SourceFileError: A required column is absent, another one unknown or there twice, or the rows are not as
                long as the header.
        """
        names = [name.strip(WHITE_SPACE) for name in _header(content, file)]
        if not set(required) <= set(names):
            _refuse_separator(file, names, (*required, *optional))
        for name in required:
            if name not in names:
                expected = ", ".join(required) + (f" and, if there, {', '.join(optional)}" if optional else "")
                raise SourceFileError(
                    f"{file}: column {name!r} is missing; found {_listed(names)}, expected {expected}"
                )
        for position, name in enumerate(names):
            if name in names[:position]:
                raise SourceFileError(f"{file}, row 1: column {name!r} stands there twice")
            if name not in required and name not in optional:
                raise SourceFileError(
                    f"{file}, row 1: unknown column {name!r}; expected {', '.join((*required, *optional))}. "
                    "Rename or remove it: what can't be understood is not left out in silence."
                )
        return cls(file, _columns(content, file, names, has_header=True), content, has_header=True)

    @classmethod
    def without_header(cls, content: bytes, file: str, names: Sequence[str]) -> "SourceTable":
        """Return a file of rows alone, with these columns in this order.

        Raises:
            SourceFileError: A row has another number of columns.
        """
        return cls(file, _columns(content, file, names, has_header=False), content, has_header=False)

    def __contains__(self, column: str) -> bool:
        """Say whether the file has a column."""
        return column in self.columns.columns

    def refuse_unless(self, valid: pl.Series, column: str, expected: str) -> None:
        """Raise on the first row for which a condition does not hold (or is null).

        Raises:
            SourceFileError: Names file, row, column, what was found and what was expected.
        """
        wrong = (~valid.fill_null(False)).arg_true()
        if len(wrong):
            found = self.columns[column][wrong[0]]
            raise self.error(wrong[0], f"column {column!r}: found {_shortened(found)}, expected {expected}")

    def error(self, index: int, reason: str) -> SourceFileError:
        """Return the error for a row, by its index in ``columns``."""
        return SourceFileError(f"{self.file}, row {self.row_number(index)}: {reason}")

    def row_number(self, index: int) -> int:
        """Return the number of a row as an editor counts lines, the header's being 1, by its index in ``columns``."""
        record = index + 1 if self.has_header else index
        for number, (line, _) in enumerate(_records(self.content)):
            if number == record:
                return line
        raise IndexError(f"{self.file} has no row at index {index}")


def _refuse_separator(file: str, texts: Sequence[str], names: Sequence[str]) -> None:
    found = other_separator(texts, names)
    if found is not None:
        raise SourceFileError(f"{file}: found columns divided by {found}, expected commas between them")


def _refuse_foreign(content: bytes, file: str) -> None:
    kind = foreign_kind(content)
    if kind is not None:
        found, _, remedy = kind.partition(": ")
        raise SourceFileError(f"{file}: this is {found}, expected delimited UTF-8 text (gzip is read too): {remedy}")


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    shown = [name if name.isprintable() and len(name) <= 60 else _shortened(name) for name in names[:most]]
    return ", ".join(shown) + more


def _header(content: bytes, file: str) -> list[str]:
    _refuse_foreign(content, file)
    for _, texts in _records(content):
        return texts
    raise SourceFileError(f"{file} is empty; expected a header")


def _columns(content: bytes, file: str, names: Sequence[str], *, has_header: bool) -> pl.DataFrame:
    _refuse_foreign(content, file)
    if not content.strip():
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(content),
            # One thread, since several can't keep what was wrong in which row.
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=list(names), skip_rows=0, skip_rows_after_names=0
            ),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(default_column_type=pa.string(), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise _malformed(content, file, len(names), error) from error
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    columns = frame.slice(1) if has_header else frame
    found = SourceTable(file, columns, content, has_header)
    for name in columns.columns:
        # An unclosed quote would swallow the rows that follow it.
        found.refuse_unless(~columns[name].str.contains("\n", literal=True), name, "no line break in a value")
    return columns.with_columns(pl.all().str.strip_chars(WHITE_SPACE))


def _malformed(content: bytes, file: str, expected: int, error: Exception) -> SourceFileError:
    for line, texts in _records(content):
        if len(texts) != expected:
            words = other_separator(texts, [""] * expected)
            if words is not None:
                return SourceFileError(f"{file}, row {line}: found columns divided by {words}, expected commas")
            return SourceFileError(f"{file}, row {line}: found {len(texts)} columns, expected {expected}")
        if any("\ufffd" in text for text in texts):
            return SourceFileError(f"{file}, row {line}: found bytes that are not UTF-8, expected UTF-8 text")
    return SourceFileError(f"{file}: not readable as delimited text: {error}")


def _records(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its line; slow, for headers and errors alone."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig", errors="replace"), newline=""))
    return ((reader.line_num, texts) for texts in reader if texts)


def _shortened(found: object, longest: int = 60) -> str:
    text = repr(found)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(str(found))} characters)"
