"""Trades and bars worked out message by message, held against those that K2 makes: the two share no code."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.bars import minute_bars, roll_up
from k2_market.feeds.feed import Conditions
from k2_market.schemas.tables import BAR_INTERVALS, MINUTE, RAW_TRADES, BarInterval
from k2_market.trades.cleaning import clean_day, unmatched_amendments
from k2_market.trades.cross_day import settle
from k2_market.verification.bar_recomputation import bar_differences, bars_of_symbol
from k2_market.verification.trade_recomputation import (
    Eligibility,
    Message,
    arriving_at,
    messages_by_symbol,
    nearest_before,
    trade_differences,
    trades_of_symbol,
)

MONDAY = date(2026, 3, 9)
DAYS = [MONDAY, MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)]
PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))
ELIGIBILITY = Eligibility(PROFILE.no_price, PROFILE.no_volume)
NAMES = ["a", "b", "c", ""]
Row = dict[str, Any]


def start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@st.composite
def raw_rows(draw: st.DrawFn, days: Sequence[date] = DAYS[:1], most: int = 14) -> list[Row]:
    """Raw rows, few ids and few instants, so that much of it collides."""
    rows: list[Row] = []
    for offset in range(draw(st.integers(0, most))):
        action = draw(st.sampled_from(["NEW", "NEW", "NEW", "CORRECT", "CANCEL"]))
        seconds = draw(st.sampled_from([0, 30, 60, 90, 400, 4000]))
        day = draw(st.sampled_from(days))
        rows.append(
            {
                "trade_date": day,
                "symbol": draw(st.sampled_from(["BHP", "RIO"])),
                "exchange_timestamp": start_of(day) + timedelta(hours=9, seconds=seconds),
                "sequence_number": draw(st.sampled_from([None, 1, 2])),
                "trade_id": draw(st.sampled_from(NAMES)),
                "price": draw(st.sampled_from([Decimal(-1), Decimal(0), Decimal("10.01"), Decimal("10.02")])),
                "quantity": draw(st.sampled_from([Decimal(-5), Decimal(0), Decimal("0.5"), Decimal(300)])),
                "side": "BUY",
                "conditions": draw(st.sampled_from([[], ["XT"], ["AV"], ["XX", "XT"]])),
                "currency": "USD",
                "action": action,
                "corrects_trade_id": None if action == "NEW" else draw(st.sampled_from([None, *NAMES])),
                "reject_reason": draw(st.sampled_from([None, None, None, None, "truncated body"])),
                "kafka_topic_id": draw(st.sampled_from(["t", "t", "u"])),
                "kafka_partition": draw(st.integers(0, 1)),
                "kafka_offset": offset,
            }
        )
    return rows


def table_of(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), RAW_TRADES)


def of_symbol(rows: pa.Table, symbol: str) -> list[Row]:
    return [row for row in rows.to_pylist() if row["symbol"] == symbol]


def differences(raw: pa.Table, trades: pa.Table, day: date = MONDAY) -> Iterator[str]:
    """Hold made trades and bars of a day against what its messages amount to."""
    start, end = start_of(day), start_of(day + timedelta(days=1))
    minutes = minute_bars(trades, start)
    bars = {each: minutes if each is MINUTE else roll_up(minutes, each, start, end) for each in BAR_INTERVALS}
    messages = dict(messages_by_symbol(raw, []))
    for symbol in sorted({*messages, *trades["symbol"].to_pylist()}):
        expected = trades_of_symbol(messages.get(symbol, []), [], lambda _: False)
        yield from trade_differences(symbol, expected, of_symbol(trades, symbol), ELIGIBILITY)
        for interval, of_width in bars_of_symbol(expected, ELIGIBILITY, start, end).items():
            yield from bar_differences(symbol, of_width, of_symbol(bars[interval], symbol))


@settings(max_examples=150, deadline=None)
@given(raw_rows())
def test_trades_and_bars_of_any_day_are_what_its_messages_amount_to(rows: list[Row]) -> None:
    raw = table_of(rows)

    assert list(differences(raw, clean_day(raw, PROFILE).trades)) == []


@settings(max_examples=150, deadline=None)
@given(raw_rows(days=DAYS, most=10))
def test_cancels_and_corrections_reach_the_same_trades_of_other_days(rows: list[Row]) -> None:
    by_day = {day: table_of([row for row in rows if row["trade_date"] == day]) for day in DAYS}
    reporting: dict[tuple[str, str], set[date]] = {}
    for row in rows:
        if row["action"] == "NEW" and row["trade_id"] and row["reject_reason"] is None:
            reporting.setdefault((row["symbol"], row["trade_id"]), set()).add(row["trade_date"])
    reports = {key: tuple(days) for key, days in reporting.items()}

    for day in DAYS:
        messages = dict(messages_by_symbol(by_day[day], []))
        made = clean_day(settled(day, by_day, reports), PROFILE).trades
        for symbol in ("BHP", "RIO"):
            later = {other: amendments(by_day[other], symbol) for other in DAYS if other > day}
            expected = trades_of_symbol(
                messages.get(symbol, []),
                arriving_at(day, symbol, later, reports),
                lambda name, day=day, symbol=symbol: nearest_before(day, symbol, name, reports) is not None,
            )
            assert trade_differences(symbol, expected, of_symbol(made, symbol), ELIGIBILITY) == []


def amendments(raw: pa.Table, symbol: str) -> list[Message]:
    found = dict(messages_by_symbol(raw, [])).get(symbol, [])
    return sorted((each for each in found if each.action != "NEW"), key=lambda message: message.place)


def settled(day: date, by_day: dict[date, pa.Table], reports: dict[tuple[str, str], tuple[date, ...]]) -> pa.Table:
    """A day's messages with those of other days about it, by K2's own rules."""

    def holders(of: date, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], date]:
        earlier = {name: [each for each in reports.get(name, ()) if each < of] for name in names}
        return {name: max(days) for name, days in earlier.items() if days}

    reaching = {}
    for other in DAYS:
        if other > day:
            unmatched = unmatched_amendments(by_day[other])
            held = holders(other, unmatched.named)
            about = [row for row, name in zip(unmatched.rows, unmatched.named, strict=True) if held.get(name) == day]
            reaching[other] = by_day[other].take(pa.array(about, pa.int64()))
    return settle(by_day[day], reaching, lambda names: holders(day, list(names))).messages


def test_a_trade_that_is_wrong_missing_doubled_or_of_nothing_is_named() -> None:
    raw = table_of([row(0), row(1, symbol="RIO")])
    trades = clean_day(raw, PROFILE).trades
    wrong_price = trades.to_pylist()
    wrong_price[0] |= {"price": Decimal("10.02"), "trade_order": 2}

    def found(table: pa.Table) -> list[str]:
        expected = trades_of_symbol(dict(messages_by_symbol(raw, []))["BHP"], [], lambda _: False)
        return trade_differences("BHP", expected, of_symbol(table, "BHP"), ELIGIBILITY)

    assert found(pa.Table.from_pylist(wrong_price, trades.schema)) == [
        "BHP t0: trade_order is 2, expected 1; price is 10.0200000000, expected 10.0100000000"
    ]
    assert found(trades.slice(1)) == ["BHP t0: missing"]
    assert found(pa.concat_tables([trades, trades])) == ["BHP t0: there more than once"]
    more = clean_day(table_of([row(0), row(2)]), PROFILE).trades
    assert found(more) == ["BHP t2: there, but no message reports it as it stands"]


@pytest.mark.parametrize("interval", [MINUTE, BAR_INTERVALS[-1]])
def test_a_bar_that_is_wrong_missing_doubled_or_of_nothing_is_named(interval: BarInterval) -> None:
    raw = table_of([row(0)])
    start, end = start_of(MONDAY), start_of(MONDAY + timedelta(days=1))
    minutes = minute_bars(clean_day(raw, PROFILE).trades, start)
    bars = (minutes if interval is MINUTE else roll_up(minutes, interval, start, end)).to_pylist()
    expected = trades_of_symbol(dict(messages_by_symbol(raw, []))["BHP"], [], lambda _: False)
    of_width = bars_of_symbol(expected, ELIGIBILITY, start, end)[interval]
    at = bars[0]["bar_start"].isoformat()

    assert bar_differences("BHP", of_width, bars) == []
    assert bar_differences("BHP", of_width, [bars[0] | {"close": Decimal("9.5")}]) == [
        f"BHP {at}: close is 9.5, expected 10.0100000000"
    ]
    assert bar_differences("BHP", of_width, []) == [f"BHP {at}: missing"]
    assert bar_differences("BHP", of_width, bars * 2) == [f"BHP {at}: there twice"]
    assert bar_differences("BHP", {}, bars) == [f"BHP {at}: there are no trades for it"]


def row(offset: int, **said: Any) -> Row:
    return {
        "trade_date": MONDAY,
        "symbol": "BHP",
        "exchange_timestamp": start_of(MONDAY) + timedelta(hours=9, seconds=offset),
        "trade_id": f"t{offset}",
        "price": Decimal("10.01"),
        "quantity": Decimal(300),
        "side": "BUY",
        "conditions": [],
        "currency": "USD",
        "action": "NEW",
        "kafka_topic_id": "t",
        "kafka_partition": 0,
        "kafka_offset": offset,
    } | said


@pytest.mark.parametrize("count", [99, 100, 101, 120])
@pytest.mark.parametrize("seconds_apart", [0, 60])
def test_bars_that_can_not_hold_their_sums_are_expected_to_be_missing_and_no_others(
    count: int, seconds_apart: int
) -> None:
    start, price, quantity = start_of(MONDAY), Decimal("99999999.9999999999"), Decimal("9999999999.99999999")
    usual = {
        "trade_date": MONDAY,
        "sequence_number": None,
        "side": "BUY",
        "conditions": [],
        "currency": "USD",
        "action": "NEW",
        "corrects_trade_id": None,
        "reject_reason": None,
        "kafka_topic_id": "t",
        "kafka_partition": 0,
    }
    rows = [
        {
            **usual,
            "symbol": "BHP",
            "trade_id": f"t{n}",
            "price": price,
            "quantity": quantity,
            "exchange_timestamp": start + timedelta(hours=9, seconds=n * seconds_apart),
            "kafka_offset": n,
        }
        for n in range(count)
    ]
    rows.append({**rows[0], "symbol": "RIO", "kafka_offset": count})
    raw = table_of(rows)

    assert list(differences(raw, clean_day(raw, PROFILE).trades)) == []
    messages = dict(messages_by_symbol(raw, []))
    expected = {
        symbol: bars_of_symbol(
            trades_of_symbol(messages[symbol], [], lambda _: False), ELIGIBILITY, start, start + timedelta(days=1)
        )
        for symbol in ("BHP", "RIO")
    }
    assert all(expected["RIO"].values())
    assert bool(expected["BHP"][MINUTE]) == (count <= 100 or seconds_apart > 0)
    assert bool(expected["BHP"][BAR_INTERVALS[-1]]) == (count <= 100)
