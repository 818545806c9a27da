"""Holds bars to a reference of plain loops over decimals, exactly, and to examples worked out by hand."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import (
    DAY,
    LARGEST_PRICE,
    LARGEST_QUANTITY,
    LEAST_PRICE,
    MIDNIGHT,
    OPEN,
    TRADES_OF_A_DAY,
    Row,
    at,
    trade,
    trades_table,
)

from k2_market.bars import BarOverflowError, minute_bars, roll_up
from k2_market.schemas.tables import BARS, MINUTE, ROLLED_UP, BarInterval
from k2_market.schemas.tables import DAY as ONE_DAY

NEXT_MIDNIGHT = MIDNIGHT + timedelta(days=1)
EXACT = Context(prec=100)


def bars(*rows: Row) -> list[Row]:
    return minute_bars(trades_table(rows), MIDNIGHT).to_pylist()


def only_bar(*rows: Row) -> Row:
    (bar,) = bars(*rows)
    return bar


def test_no_trades_make_no_bars():
    minutes = minute_bars(trades_table([]), MIDNIGHT)

    assert minutes.schema.equals(BARS)
    assert minutes.num_rows == 0
    for interval in ROLLED_UP:
        assert roll_up(minutes, interval, MIDNIGHT, NEXT_MIDNIGHT).equals(minutes)


def test_a_bar_worked_out_by_hand():
    prices = ["10.00", "10.50", "9.75", "10.25"]
    rows = [
        trade(i, exchange_timestamp=at(i * 10), price=Decimal(p), quantity=Decimal(i + 1)) for i, p in enumerate(prices)
    ]

    assert bars(*rows) == [
        {
            "trade_date": DAY,
            "symbol": "BHP",
            "bar_start": OPEN,
            "bar_end": OPEN + timedelta(minutes=1),
            "open": Decimal("10.00"),
            "high": Decimal("10.50"),
            "low": Decimal("9.75"),
            "close": Decimal("10.25"),
            "volume": Decimal(10),
            "vwap": Decimal("10.125"),  # (10 + 21 + 29.25 + 41) / 10
            "notional": Decimal("101.25"),
            "priced_volume": Decimal(10),
            "trade_count": 4,
            "priced_count": 4,
        }
    ]


def test_a_trade_on_the_minute_belongs_to_the_bar_that_starts_then():
    rows = [trade(0, exchange_timestamp=at(59.999999)), trade(1, exchange_timestamp=at(60))]

    assert [(bar["bar_start"], bar["trade_count"]) for bar in bars(*rows)] == [(at(0), 1), (at(60), 1)]


def test_minutes_without_trades_have_no_bar():
    assert [bar["bar_start"] for bar in bars(trade(0), trade(1, exchange_timestamp=at(600)))] == [at(0), at(600)]


def test_trades_of_one_instant_open_and_close_by_sequence_number_not_by_row():
    rows = [
        trade(2, sequence_number=9, price=Decimal(3)),
        trade(0, sequence_number=10, price=Decimal(4)),
        trade(1, sequence_number=2, price=Decimal(2)),
    ]

    assert (only_bar(*rows)["open"], only_bar(*rows)["close"]) == (2, 4)


def test_without_sequence_numbers_the_feeds_order_decides():
    rows = [trade(7, price=Decimal(2)), trade(3, price=Decimal(1)), trade(8, price=Decimal(3))]

    assert (only_bar(*rows)["open"], only_bar(*rows)["close"]) == (1, 3)


def test_a_trade_that_sets_no_price_counts_for_volume_alone():
    bar = only_bar(trade(0), trade(1, price=Decimal(42), quantity=Decimal(900), price_eligible=False))

    assert (bar["high"], bar["close"], bar["vwap"]) == (10, 10, 10)
    assert (bar["volume"], bar["priced_volume"], bar["trade_count"], bar["priced_count"]) == (1000, 100, 2, 1)


def test_volume_without_a_price_is_a_bar_with_no_prices():
    bar = only_bar(trade(0, price_eligible=False))

    assert {bar[name] for name in ("open", "high", "low", "close", "vwap")} == {None}
    assert (bar["volume"], bar["notional"], bar["priced_volume"]) == (100, 0, 0)
    assert (bar["trade_count"], bar["priced_count"]) == (1, 0)


def test_trades_that_count_for_nothing_make_no_bar():
    assert bars(trade(0, price_eligible=False, volume_eligible=False)) == []


def test_a_trade_of_quantity_zero_sets_prices_and_no_vwap():
    bar = only_bar(trade(0, quantity=Decimal(0)))

    assert (bar["open"], bar["close"], bar["vwap"], bar["volume"]) == (10, 10, None, 0)


def test_vwap_is_rounded_half_up():
    rows = [trade(0, price=LEAST_PRICE, quantity=Decimal(1)), trade(1, price=2 * LEAST_PRICE, quantity=Decimal(1))]

    assert only_bar(*rows)["vwap"] == 2 * LEAST_PRICE


def test_the_largest_numbers_the_columns_hold_are_exact():
    bar = only_bar(*(trade(i, price=LARGEST_PRICE, quantity=LARGEST_QUANTITY) for i in range(99)))

    assert bar["notional"] == EXACT.multiply(EXACT.multiply(LARGEST_PRICE, LARGEST_QUANTITY), Decimal(99))
    assert (bar["vwap"], bar["volume"]) == (LARGEST_PRICE, EXACT.multiply(LARGEST_QUANTITY, Decimal(99)))


def largest(count: int, symbol: str = "BHP", seconds_apart: int = 0, **said: Any) -> list[Row]:
    """Trades of the largest price and quantity; a hundred of them are the most that a bar can hold."""
    rows = [trade(i, symbol=symbol, price=LARGEST_PRICE, quantity=LARGEST_QUANTITY) for i in range(count)]
    return [{**row, "exchange_timestamp": at(i * seconds_apart), **said} for i, row in enumerate(rows)]


def made(rows: list[Row]) -> tuple[dict[str, pa.Table], list[BarOverflowError]]:
    """The bars of every width, and of which symbols they are kept back."""
    kept_back: list[BarOverflowError] = []
    minutes = minute_bars(trades_table(rows), MIDNIGHT, kept_back.append)
    rolled_up = {each.name: roll_up(minutes, each, MIDNIGHT, NEXT_MIDNIGHT, kept_back.append) for each in ROLLED_UP}
    return {MINUTE.name: minutes, **rolled_up}, kept_back


def symbols(table: pa.Table) -> set[str]:
    return set(table["symbol"].to_pylist())


# at 171 the sum has gone round 128 bits once, at 341 twice and at 511 three times
@pytest.mark.parametrize("count", [101, 169, 170, 171, 172, 339, 340, 341, 342, 400, 511, 512])
def test_a_symbol_whose_notional_is_beyond_its_column_has_no_bars_and_the_others_have_theirs(count):
    others = [trade(900, symbol="ANZ"), trade(901, symbol="WOW", exchange_timestamp=at(3_000))]
    found, kept_back = made([*largest(count), *others, trade(902, symbol="BHP", exchange_timestamp=at(7_000))])
    alone, _ = made(others)

    assert found == alone
    (told,) = kept_back
    assert told.symbol == "BHP"
    assert str(told).startswith(
        "the 1m bars of 'BHP' are kept back: notional of the one from 2026-03-10T13:30:00+00:00"
    )
    assert "expected below 1e20" in str(told)


def test_the_largest_notional_that_fits_is_a_bar():
    found, kept_back = made(largest(100))

    (minute,) = found["1m"].to_pylist()
    assert minute["notional"] == EXACT.multiply(EXACT.multiply(LARGEST_PRICE, LARGEST_QUANTITY), Decimal(100))
    assert not kept_back


def test_a_sum_that_only_a_longer_bar_can_not_hold_keeps_back_the_longer_bars_alone():
    found, kept_back = made(
        [*largest(180, seconds_apart=1), *largest(120, "RIO", seconds_apart=3_600 // 4), trade(900, symbol="ANZ")]
    )

    assert symbols(found["1m"]) == symbols(found["1h"]) | {"BHP"} == {"ANZ", "BHP", "RIO"}
    assert symbols(found["5m"]) == symbols(found["15m"]) == symbols(found["30m"]) == {"ANZ", "RIO"}
    assert symbols(found["1d"]) == {"ANZ"}
    assert [each.symbol for each in kept_back] == ["BHP"] * 4 + ["BHP", "RIO"]
    assert str(kept_back[0]).startswith("the 5m bars of 'BHP' are kept back")


def test_volumes_that_a_longer_bar_can_not_hold_keep_it_back_too():
    half = Decimal("6e29")
    minute = only_bar(trade(0)) | {"volume": half}
    later = minute | {"bar_start": at(60), "bar_end": at(120)}
    kept_back: list[BarOverflowError] = []

    day = roll_up(pa.Table.from_pylist([minute, later], BARS), ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT, kept_back.append)

    assert day.num_rows == 0
    assert "volume of the one from" in str(kept_back[0])
    assert roll_up(pa.Table.from_pylist([minute], BARS), ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT)["volume"][0].as_py() == half


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ANZ", "BHP"]), st.sampled_from([1, 50, 51, 99, 100, 101, 170, 171]), st.integers(0, 3)
        ),
        max_size=5,
    )
)
@settings(max_examples=40, deadline=None)
def test_what_is_kept_back_is_what_plain_decimals_find_too_large(groups):
    rows = []
    for symbol, count, minute in groups:
        rows += largest(count, symbol, exchange_timestamp=at(60 * minute), sequence_number=len(rows))
    found, _ = made([{**row, "kafka_offset": offset, "trade_id": f"t{offset}"} for offset, row in enumerate(rows)])

    each = EXACT.multiply(LARGEST_PRICE, LARGEST_QUANTITY)
    for symbol in {symbol for symbol, _, _ in groups}:
        of_minutes = defaultdict(int)
        for other, count, minute in groups:
            of_minutes[minute] += count * (other == symbol)
        minutes_fit = all(each * count < Decimal("1e20") for count in of_minutes.values())
        whole_fits = each * sum(of_minutes.values()) < Decimal("1e20")
        assert (symbol in symbols(found["1m"])) == minutes_fit
        assert (symbol in symbols(found["5m"])) == (symbol in symbols(found["1d"])) == (minutes_fit and whole_fits)


def test_an_evening_session_before_midnight_is_in_bars_before_midnight():
    evening = MIDNIGHT - timedelta(hours=6, seconds=1)
    minutes = minute_bars(trades_table([trade(0, exchange_timestamp=evening)]), MIDNIGHT)

    assert minutes["bar_start"].to_pylist() == [MIDNIGHT - timedelta(hours=6, minutes=1)]
    hours = roll_up(minutes, ROLLED_UP[3], MIDNIGHT, NEXT_MIDNIGHT).to_pylist()
    assert (hours[0]["bar_start"], hours[0]["bar_end"]) == (
        MIDNIGHT - timedelta(hours=7),
        MIDNIGHT - timedelta(hours=6),
    )
    (day,) = roll_up(minutes, ONE_DAY, MIDNIGHT, NEXT_MIDNIGHT).to_pylist()
    assert (day["bar_start"], day["bar_end"], day["trade_count"]) == (MIDNIGHT, NEXT_MIDNIGHT, 1)


def test_the_grid_starts_at_the_exchanges_midnight_where_that_is_no_whole_hour_in_utc():
    midnight = datetime(2026, 3, 9, 18, 30, tzinfo=UTC)  # Kolkata
    minutes = minute_bars(
        trades_table([trade(0, exchange_timestamp=midnight + timedelta(hours=9, minutes=15))]), midnight
    )

    (hour,) = roll_up(minutes, ROLLED_UP[3], midnight, midnight + timedelta(days=1)).to_pylist()

    assert hour["bar_start"] == midnight + timedelta(hours=9)


@pytest.mark.parametrize("hours", [23, 25])
def test_a_day_bar_lasts_as_long_as_the_day_when_clocks_change(hours):
    minutes = minute_bars(trades_table([trade(0)]), MIDNIGHT)

    (day,) = roll_up(minutes, ONE_DAY, MIDNIGHT, MIDNIGHT + timedelta(hours=hours)).to_pylist()

    assert day["bar_end"] - day["bar_start"] == timedelta(hours=hours)


# Generated days, against the reference.


def days(build: Callable[[list[Row]], Any]) -> Any:
    return TRADES_OF_A_DAY.map(lambda rows: build([trade(offset, **row) for offset, row in enumerate(rows)]))


@given(days(list))
@settings(max_examples=150, deadline=None)
def test_minutes_are_what_plain_loops_over_decimals_give(rows):
    assert bars(*rows) == reference(rows, MINUTE)


@given(days(list), st.sampled_from(ROLLED_UP), st.randoms())
@settings(max_examples=200, deadline=None)
def test_bars_rolled_up_from_minutes_are_those_made_from_the_trades(rows, interval, random):
    minutes = minute_bars(trades_table(rows), MIDNIGHT).to_pylist()
    random.shuffle(minutes)

    rolled = roll_up(pa.Table.from_pylist(minutes, schema=BARS), interval, MIDNIGHT, NEXT_MIDNIGHT)

    assert rolled.schema.equals(BARS)
    assert rolled.to_pylist() == reference(rows, interval)


@given(days(list), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_and_chunks_changes_nothing(rows, random):
    whole = trades_table(rows)
    inorder = minute_bars(whole, MIDNIGHT)
    order = list(range(len(rows)))
    random.shuffle(order)
    middle = len(rows) // 2
    chunks = pa.concat_tables([whole.take(pa.array(each, pa.int64())) for each in (order[:middle], order[middle:])])

    assert minute_bars(chunks, MIDNIGHT).equals(inorder)


def reference(rows: list[Row], interval: BarInterval) -> list[Row]:
    """Bars straight from the trades, whatever the interval, in arbitrary precision."""
    slots: dict[tuple[str, datetime], list[Row]] = defaultdict(list)
    for row in sorted(
        rows, key=lambda row: (row["exchange_timestamp"], row["sequence_number"] or 0, row["kafka_offset"])
    ):
        start = MIDNIGHT
        if interval != ONE_DAY:
            start += (row["exchange_timestamp"] - MIDNIGHT) // interval.width * interval.width
        if row["price_eligible"] or row["volume_eligible"]:
            slots[row["symbol"], start].append(row)
    result = []
    for (symbol, start), trades in sorted(slots.items()):
        priced = [row for row in trades if row["price_eligible"]]
        counted = [row for row in trades if row["volume_eligible"]]
        prices = [row["price"] for row in priced]
        notional = total([EXACT.multiply(row["price"], row["quantity"]) for row in priced])
        volume = total([row["quantity"] for row in priced])
        result.append(
            {
                "trade_date": DAY,
                "symbol": symbol,
                "bar_start": start,
                "bar_end": NEXT_MIDNIGHT if interval == ONE_DAY else start + interval.width,
                "open": prices[0] if prices else None,
                "high": max(prices, default=None),
                "low": min(prices, default=None),
                "close": prices[-1] if prices else None,
                "volume": total([row["quantity"] for row in counted]),
                "vwap": half_up(EXACT.divide(notional, volume)) if volume else None,
                "notional": notional,
                "priced_volume": volume,
                "trade_count": len(counted),
                "priced_count": len(priced),
            }
        )
    return result


def total(numbers: list[Decimal]) -> Decimal:
    result = Decimal(0)
    for number in numbers:
        result = EXACT.add(result, number)
    return result


def half_up(number: Decimal) -> Decimal:
    return number.quantize(LEAST_PRICE, rounding=ROUND_HALF_UP, context=EXACT)
