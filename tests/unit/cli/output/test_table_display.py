from collections.abc import Iterator
from decimal import Decimal
from io import StringIO

import pyarrow as pa
import pytest
from rich.console import Console

from k2_cli.output.table_display import show_answer, visible
from k2_resources.query.answer import Answer


def test_few_rows_are_shown_whole_with_their_number() -> None:
    shown = display(pa.table({"symbol": ["BHP", "RIO"], "trades": [1, 20]}))
    assert shown.splitlines() == [
        "symbol   trades",
        "───────────────",
        "BHP           1",
        "RIO          20",
        "2 rows",
    ]


def test_of_many_rows_the_first_are_shown_and_all_are_counted() -> None:
    table = pa.table({"x": range(1234)})
    shown = display(table, rows=3, batch_rows=100).splitlines()
    assert [line.strip() for line in shown[2:]] == ["0", "1", "2", "1,234 rows, the first 3 shown (--rows 0 shows all)"]


def test_no_limit_shows_all_rows() -> None:
    assert len(display(pa.table({"x": range(100)}), rows=0).splitlines()) == 103


def test_all_rows_of_a_long_answer_are_printed_as_they_arrive_and_none_is_kept() -> None:
    arrived = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal arrived
        for start in range(0, 20_000, 1_000):
            arrived += 1
            yield pa.record_batch({"symbol": ["BHP"] * 1_000, "x": list(range(start, start + 1_000))})

    class Noticing(StringIO):
        """Notes how many batches had arrived when each line was written."""

        lines: list[int] = []  # noqa: RUF012

        def write(self, text: str) -> int:
            self.lines += [arrived] * text.count("\n")
            return super().write(text)

    out = Noticing()
    schema = pa.schema({"symbol": pa.string(), "x": pa.int64()})
    show_answer(Answer(schema, batches()), 0, Console(file=out, highlight=False))

    lines = out.getvalue().splitlines()
    assert [line.split() for line in lines[2:-1]] == [["BHP", str(n)] for n in range(20_000)]
    assert lines[-1] == "20,000 rows"
    assert len({len(line) for line in lines[2:1_000]}) == 1
    assert out.lines[1_500] < 4


def test_more_rows_than_are_measured_are_shown_up_to_the_limit() -> None:
    shown = display(pa.table({"x": range(3_000)}), rows=1_500, batch_rows=400).splitlines()
    assert [line.strip() for line in shown[2:-1]] == [str(n) for n in range(1_500)]
    assert shown[-1] == "3,000 rows, the first 1,500 shown (--rows 0 shows all)"


def test_an_answer_without_rows_shows_its_columns() -> None:
    assert display(pa.table({"symbol": pa.array([], pa.string())})).split() == ["symbol", "──────", "0", "rows"]


def test_a_terminal_gets_as_many_columns_as_fit_and_the_names_of_the_others() -> None:
    table = pa.table({name: ["x" * 20] for name in ("first", "second", "third", "fourth")})
    shown = display(table, width=70)
    assert "not shown: fourth." in shown
    assert max(map(len, shown.splitlines()[:3])) <= 70


def test_a_file_gets_all_columns_uncut() -> None:
    table = pa.table({name: ["x" * 200] for name in ("first", "second", "third")})
    shown = display(table, terminal=False, width=80)
    assert shown.count("x" * 200) == 3
    assert "not shown" not in shown


def test_a_long_text_is_cut_in_a_terminal() -> None:
    assert "x" * 59 + "…" in display(pa.table({"text": ["x" * 61]}))


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x07", "a\nb", "\x9b1m", "\u202eevil", "\x1b]0;title\x07"])
def test_what_would_steer_the_terminal_is_spelled_out(hostile: str) -> None:
    shown = display(pa.table({hostile: [hostile]}), terminal=False)
    assert "\x1b" not in shown
    assert visible(hostile) in shown
    assert visible(hostile).isprintable()


def test_square_brackets_are_text_and_not_markup() -> None:
    assert "[red]BHP[/red]" in display(pa.table({"symbol": ["[red]BHP[/red]"]}))


def test_one_column_is_shown_even_where_it_does_not_fit() -> None:
    shown = display(pa.table({"wide": ["x" * 50], "other": ["y"]}), width=30)
    assert "x" * 29 in shown
    assert "not shown: other." in shown


def display(table: pa.Table, *, rows: int = 40, terminal: bool = True, width: int = 100, batch_rows: int = 50) -> str:
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None, highlight=False)
    show_answer(Answer(table.schema, iter(table.to_batches(batch_rows))), rows, console)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", range(20, 90))
def test_no_number_is_cut_in_a_terminal_of_any_width(width: int) -> None:
    table = pa.table({"start": ["2026-11-25 15:00"], **{f"c{n}": [1_564_123 + n] for n in range(8)}})
    shown = display(table, width=width)
    assert "…" not in shown
    left_out = shown.partition("not shown: ")[2].replace("\n", " ").partition(".")[0]
    for n in range(8):
        assert (str(1_564_123 + n) in shown) != (f"c{n}" in left_out), n


def test_decimals_are_shown_with_the_digits_that_say_something() -> None:
    values = [Decimal("505.000"), Decimal("1000.000"), Decimal("0.250"), None]
    table = pa.table({"notional": pa.array(values, pa.decimal128(18, 3))})
    cells = [line.strip() for line in display(table).splitlines()[2:6]]
    assert cells == ["505", "1000", "0.25", ""]
