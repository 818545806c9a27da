import io
import sys
from base64 import b64decode
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from bar_rows import DAY, bar, bar_table, unpriced
from PIL import Image

from k2_assets.day_chart import day_chart_markdown, day_chart_png

SYDNEY = ZoneInfo("Australia/Sydney")
TITLE = "asx · 2014-03-11 · 1m bars"


def day_of(*symbols: str, minutes: int = 60) -> pa.Table:
    """A day of rising prices."""
    return bar_table(
        bar(
            minute,
            symbol=symbol,
            open=Decimal(10),
            high=Decimal(12 + minute),
            low=Decimal(9),
            close=Decimal(11 + minute),
        )
        for symbol in symbols
        for minute in range(minutes)
    )


CASES = {
    "one symbol": day_of("BHP"),
    "one symbol with more bars than candles fit": day_of("BHP", minutes=600),
    "several symbols": day_of("BHP", "RIO", "DVN"),
    "more symbols than lines": day_of(*(f"S{number}" for number in range(30))),
    "one bar a symbol": day_of("BHP", "RIO", minutes=1),
    "more symbols of one bar than rows": day_of(*(f"S{number}" for number in range(40)), minutes=1),
    "a single bar": day_of("BHP", minutes=1),
    "a price that never moves": bar_table(bar(minute) for minute in range(60)),
    "bars without a price among others": bar_table(
        [*(bar(minute) for minute in range(30)), unpriced(30, symbol="RIO")]
    ),
    "symbols with dollar signs": day_of("ABR$D", "$X$", minutes=30),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bars", CASES.values(), ids=CASES)
def test_every_kind_of_day_has_a_picture_small_enough_for_metadata(bars: pa.Table) -> None:
    png = day_chart_png(bars, TITLE, SYDNEY)
    assert png is not None
    assert len(png) < 40_000
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (960, 504)
    assert len(picture.convert("RGB").getcolors() or []) > 5


def test_the_picture_is_markdown_that_holds_it() -> None:
    markdown = day_chart_markdown(day_of("BHP"), "a [b] c")
    head, data = markdown.removesuffix(")").split("(data:image/png;base64,")
    assert head == "![a (b) c]"
    assert Image.open(io.BytesIO(b64decode(data, validate=True))).format == "PNG"


@pytest.mark.parametrize("bars", [bar_table([]), bar_table([unpriced(0)])], ids=["no bars", "no prices"])
def test_where_there_is_nothing_to_draw_there_is_no_picture(bars: pa.Table) -> None:
    assert day_chart_png(bars, TITLE) is None
    assert day_chart_markdown(bars, TITLE) == ""


def test_other_days_prices_make_another_picture() -> None:
    assert day_chart_png(day_of("BHP"), TITLE) != day_chart_png(day_of("BHP", minutes=50), TITLE)


def test_the_same_bars_make_the_same_picture_in_any_order() -> None:
    bars = day_of("BHP", "RIO")
    shuffled = bars.take(list(reversed(range(bars.num_rows))))
    assert day_chart_png(bars, TITLE) == day_chart_png(shuffled, TITLE)


def test_times_are_those_of_the_zone() -> None:
    assert day_chart_png(day_of("BHP"), TITLE, SYDNEY) != day_chart_png(day_of("BHP"), TITLE)


def test_drawing_does_without_pyplot_which_would_keep_every_figure() -> None:
    before = "matplotlib.pyplot" in sys.modules
    day_chart_png(day_of("BHP"), TITLE)
    assert ("matplotlib.pyplot" in sys.modules) is before


def test_a_symbol_s_bars_may_start_on_another_utc_day() -> None:
    early = bar(0, day=DAY, bar_start=bar(0)["bar_start"] - timedelta(hours=2), bar_end=bar(0)["bar_start"])
    assert day_chart_png(bar_table([early, bar(1), bar(2)]), TITLE, SYDNEY) is not None


@pytest.mark.parametrize("first", [Decimal(0), Decimal("-37.63")])
def test_prices_that_begin_at_zero_or_below_have_a_picture(first: Decimal) -> None:
    prices = {"open": first, "high": Decimal(1), "low": Decimal(-40), "close": Decimal(-13)}

    bars = [bar(0, **prices), bar(1), bar(0, symbol="B", **prices), bar(1, symbol="B")]
    assert day_chart_png(bar_table(bars), TITLE) is not None
    assert day_chart_png(bar_table(bars[:2]), TITLE) is not None
