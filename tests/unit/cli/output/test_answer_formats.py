import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2_cli.output.answer_formats import AnswerFormat, OutputError, write_answer
from k2_market.schemas.tables import PRICE, TIMESTAMP
from k2_resources.query.answer import Answer
from k2_resources.query.reading_statement import QueryError

MOMENT = datetime(2014, 3, 10, 23, 0, 0, 1, tzinfo=UTC)
ROWS = pa.table(
    {
        "day": pa.array([date(2014, 3, 11), None], pa.date32()),
        "at": pa.array([MOMENT, None], TIMESTAMP),
        "price": pa.array([Decimal("0.0000000001"), None], PRICE),
        "name": ['a "b", c', None],
        "count": [2**62, None],
    }
)


def test_csv_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    write(ROWS, AnswerFormat.CSV)
    written = capsys.readouterr().out
    assert written == (
        "day,at,price,name,count\n"
        '2014-03-11,2014-03-10T23:00:00.000001Z,0.0000000001,"a ""b"", c",4611686018427387904\n'
        ",,,,\n"
    )


def test_csv_can_be_read_back(tmp_path: Path) -> None:
    names = ["plain", "with,comma", 'with"quote', "with\nnewline", ""]
    write(pa.table({"name": names}), AnswerFormat.CSV, tmp_path / "names.csv")
    with (tmp_path / "names.csv").open(encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == names


def test_json_is_an_array_of_objects_with_decimals_as_strings(capsys: pytest.CaptureFixture[str]) -> None:
    write(ROWS, AnswerFormat.JSON)
    assert json.loads(capsys.readouterr().out) == [
        {
            "day": "2014-03-11",
            "at": "2014-03-10T23:00:00.000001Z",
            "price": "0.0000000001",
            "name": 'a "b", c',
            "count": 2**62,
        },
        {"day": None, "at": None, "price": None, "name": None, "count": None},
    ]


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_json_over_several_batches_is_one_array(capsys: pytest.CaptureFixture[str], batch_rows: int) -> None:
    write(pa.table({"x": range(5)}), AnswerFormat.JSON, batch_rows=batch_rows)
    assert json.loads(capsys.readouterr().out) == [{"x": x} for x in range(5)]


def test_no_rows_are_an_empty_array_and_a_lone_header(capsys: pytest.CaptureFixture[str]) -> None:
    write(ROWS.slice(0, 0), AnswerFormat.JSON)
    assert json.loads(capsys.readouterr().out) == []
    write(ROWS.slice(0, 0), AnswerFormat.CSV)
    assert capsys.readouterr().out == "day,at,price,name,count\n"


def test_parquet_keeps_types_and_values(tmp_path: Path) -> None:
    write(ROWS, AnswerFormat.PARQUET, tmp_path / "rows.parquet", batch_rows=1)
    assert pq.read_table(tmp_path / "rows.parquet").equals(ROWS)


def test_parquet_is_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    with pytest.raises(OutputError, match="--output FILE"):
        write(ROWS, AnswerFormat.PARQUET)


def test_a_table_can_go_to_a_file(tmp_path: Path) -> None:
    write(ROWS, AnswerFormat.TABLE, tmp_path / "table.txt")
    assert "2014-03-10T23:00:00.000001Z" in (tmp_path / "table.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", list(AnswerFormat))
def test_a_file_is_left_as_it_was_when_the_answer_fails_half_way(tmp_path: Path, form: AnswerFormat) -> None:
    output = tmp_path / "answer"
    output.write_text("what was there before")

    def failing() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        raise QueryError("half way")

    with pytest.raises(QueryError):
        write_answer(Answer(ROWS.schema, failing()), form, output, table_rows=0, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["answer"]
    assert output.read_text() == "what was there before"


def test_a_file_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/rows.csv: can't be written: No such file or directory"):
        write(ROWS, AnswerFormat.CSV, tmp_path / "nowhere" / "rows.csv")


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def write(table: pa.Table, form: AnswerFormat, output: Path | None = None, batch_rows: int = 100) -> None:
    write_answer(Answer(table.schema, iter(table.to_batches(batch_rows))), form, output, table_rows=40)


def test_a_file_that_is_there_is_left_alone_unless_it_may_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, answer = tmp_path / "rows.csv", pa.table({"x": [1]})
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"rows\.csv: there is such a file already; nothing was written"):
        write(answer, AnswerFormat.CSV, file)
    assert file.read_text(encoding="utf-8") == "mine"
    write_answer(Answer(answer.schema, iter(answer.to_batches())), AnswerFormat.CSV, file, 40, replace=True)
    assert file.read_text(encoding="utf-8") == "x\n1\n"
    assert "rows.csv: 4 bytes of csv written" in capsys.readouterr().err


def test_csv_is_utf8_whatever_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    write(pa.table({"symbol": ["日経225"]}), AnswerFormat.CSV)
    assert written.getvalue().decode("utf-8") == "symbol\n日経225\n"
