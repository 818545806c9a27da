from decimal import Decimal

from bar_rows import bar, bar_table, unpriced
from hypothesis import given
from hypothesis import strategies as st

from k2_cli.output.bar_table import bar_columns, used_digits
from k2_cli.output.table_display import TableColumn

exact = st.integers(-(10**14), 10**14).map(lambda units: Decimal(units).scaleb(-8))


@given(st.lists(st.none() | exact))
def test_shown_decimals_are_exact_and_equally_long_after_the_point(values: list[Decimal | None]) -> None:
    shown = used_digits(values)
    assert [Decimal(text.replace(",", "")) if text else None for text in shown] == values
    assert len({len(text.partition(".")[2]) for text in shown if text}) <= 1


def test_only_the_digits_that_are_used_are_shown() -> None:
    assert used_digits([Decimal("36.45000000"), Decimal("1200.00000000"), None]) == ["36.45", "1,200.00", ""]
    assert used_digits([Decimal("6705250.00000000")]) == ["6,705,250"]
    assert used_digits([Decimal("0E-8")]) == ["0"]


def test_intraday_bars_are_named_by_their_start_and_daily_ones_by_their_trading_day() -> None:
    bars = bar_table([bar(61)])
    assert cells(bar_columns(bars, daily=False, rows=40))["start (UTC)"] == ["2014-03-11 01:01"]
    assert cells(bar_columns(bars, daily=True, rows=40))["trading day"] == ["2014-03-11"]


def test_a_bar_without_a_price_has_empty_cells() -> None:
    shown = cells(bar_columns(bar_table([bar(0), unpriced(1, volume=Decimal(7))]), daily=False, rows=40))
    assert shown["open"] == ["10", ""]
    assert shown["volume"] == ["100", "7"]


def test_of_many_bars_the_first_and_the_last_are_shown() -> None:
    bars = bar_table([bar(minute) for minute in range(100)])
    starts = cells(bar_columns(bars, daily=False, rows=5))["start (UTC)"]
    assert [start[-5:] for start in starts] == ["00:00", "00:01", "⋮", "01:37", "01:38", "01:39"]
    assert len(cells(bar_columns(bars, daily=False, rows=0))["start (UTC)"]) == 100
    assert len(cells(bar_columns(bars, daily=False, rows=100))["start (UTC)"]) == 100


def cells(columns: list[TableColumn]) -> dict[str, list[str]]:
    return {column.name: column.cells for column in columns}
