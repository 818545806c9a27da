from decimal import Decimal

import pyarrow as pa
import pytest
from bar_rows import bar, bar_table, unpriced
from hypothesis import example, given
from hypothesis import strategies as st

from k2_cli.output.terminal_chart import as_candles, candle_chart, merge

prices = st.integers(1, 10**6).map(lambda units: Decimal(units).scaleb(-2))
walks = st.lists(st.tuples(prices, prices, prices, prices, st.integers(0, 10**9)), min_size=1, max_size=200)


CENT, HUNDRED = Decimal("0.01"), Decimal(100)


@given(walks, st.integers(30, 200))
@example([(CENT, CENT, CENT, CENT, 0)] * 8 + [(CENT, CENT, CENT, HUNDRED, 0)], 30)  # the last label is at the edge
def test_a_chart_fits_the_terminal(walk: list[tuple[Decimal, ...]], width: int) -> None:
    chart = candle_chart(bars_of(walk), width)
    assert max(len(line.rstrip()) for line in chart.plain.splitlines()) <= width


@given(walks, st.integers(1, 60))
def test_merged_candles_cover_the_same_prices_and_volume(walk: list[tuple[Decimal, ...]], most: int) -> None:
    candles = as_candles(bars_of(walk))
    merged = merge(candles, most)
    assert len(merged) <= most
    assert merged[0].open == candles[0].open
    assert merged[-1].close == candles[-1].close
    assert max(each.high for each in merged) == max(each.high for each in candles)
    assert min(each.low for each in merged) == min(each.low for each in candles)
    assert sum(each.volume for each in merged) == pytest.approx(sum(each.volume for each in candles))


def test_a_rising_candle_is_green_with_its_body_between_open_and_close() -> None:
    rising = bar(0, open=Decimal(10), high=Decimal(13), low=Decimal(10), close=Decimal(11))
    chart = candle_chart(bar_table([rising]), 40)
    column = [line[8] for line in chart.plain.splitlines()[:14]]
    assert column[:8] == ["│"] * 8
    assert column[-3:] == ["┃"] * 3
    assert {"green"} == {span.style for span in chart.spans} - {"dim"}


def test_a_falling_candle_is_red() -> None:
    falling = bar(0, open=Decimal(12), high=Decimal(12), low=Decimal(10), close=Decimal(10))
    assert {span.style for span in candle_chart(bar_table([falling]), 40).spans} == {"red", "dim"}


def test_the_margin_says_the_highest_the_middle_and_the_lowest_price_and_the_largest_volume() -> None:
    bars = [bar(0, price=Decimal("35.84")), bar(1, price=Decimal("36.45"), volume=Decimal(125_000))]
    labels = [
        line.partition("┤")[0].strip() for line in candle_chart(bar_table(bars), 80).plain.splitlines() if "┤" in line
    ]
    assert labels == ["36.45", "36.15", "35.84", "125.0k", "0"]


def test_prices_far_below_one_keep_digits_that_tell_them_apart() -> None:
    bars = bar_table([bar(0, price=Decimal("0.00001234")), bar(1, price=Decimal("0.00001250"))])
    assert "0.0000125" in candle_chart(bars, 80).plain
    assert "0.0000123" in candle_chart(bars, 80).plain


def test_times_stand_below_one_day_and_dates_below_several() -> None:
    one = candle_chart(bar_table([bar(minute) for minute in range(40)]), 100)
    assert one.plain.splitlines()[-1].split()[0] == "00:00"
    days = [bar(0, day=as_candles(bar_table([bar(0)]))[0].day.replace(day=day)) for day in (11, 12)]
    assert candle_chart(bar_table(days), 100).plain.splitlines()[-1].split() == ["2014-03-11"]


def test_a_chart_of_merged_bars_says_how_many_a_candle_is() -> None:
    chart = candle_chart(bar_table([bar(minute) for minute in range(300)]), 60)
    assert "a candle is 6 bars" in chart.plain


def test_a_small_volume_is_seen_beside_a_large_one() -> None:
    bars = bar_table([bar(0, volume=Decimal(1)), bar(1, volume=Decimal(10**9))])
    lowest_row = next(line for line in candle_chart(bars, 80).plain.splitlines() if line.strip().startswith("0 ┤"))
    assert lowest_row.partition("┤")[2].split() == ["▁", "█"]


def test_bars_without_a_price_are_left_out_and_without_any_there_is_no_chart() -> None:
    assert len(as_candles(bar_table([bar(0), unpriced(1)]))) == 1
    assert candle_chart(bar_table([unpriced(0)]), 80).plain == ""


def bars_of(walk: list[tuple[Decimal, ...]]) -> pa.Table:
    return bar_table(
        bar(minute, open=four[0], high=max(four), low=min(four), close=four[-1], volume=Decimal(volume))
        for minute, (*four, volume) in enumerate(walk)
    )
