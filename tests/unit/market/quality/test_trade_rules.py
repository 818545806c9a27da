from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import LEAST_PRICE, OPEN, Row, at, dead_letter, message, messages, raw_table, trade, trades_table

from k2_market.feeds.feed import Conditions
from k2_market.feeds.trading_calendar import Session
from k2_market.quality.finding import Finding, Severity
from k2_market.quality.trade_rules import (
    complete_against_raw,
    inside_session,
    inside_session_rule,
    prices_positive,
    trades_in_order,
    unique_trades,
    unmatched_amendments,
)
from k2_market.trades.cleaning import clean_day

PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))
SESSION = Session(OPEN, OPEN + timedelta(hours=6, minutes=30))


def completeness(raw: list[Row], trades: list[Row]) -> Finding:
    return complete_against_raw(raw_table(raw), trades_table(trades))


def test_a_day_without_trades_passes():
    empty = trades_table([])

    for finding in (
        unique_trades(empty),
        complete_against_raw(raw_table([]), empty),
        prices_positive(empty),
        trades_in_order(empty),
        unmatched_amendments(raw_table([])),
        inside_session(empty, SESSION, 1, 1),
        inside_session(empty, None, 1, 1),
    ):
        assert finding.passed
        assert finding.examples == ()


def test_a_key_on_two_rows_is_an_error_that_shows_both():
    finding = unique_trades(
        trades_table([trade(0), trade(1), trade(7, trade_id="t0"), trade(8, symbol="RIO", trade_id="t0")])
    )

    assert not finding.passed
    assert finding.severity is Severity.ERROR
    assert finding.numbers == {"trades": 4, "repeated_ids": 1, "surplus_rows": 1}
    assert finding.examples[0] == {
        "symbol": "BHP",
        "trade_id": "t0",
        "exchange_timestamp": "2026-03-10T13:30:00.000000+00:00",
        "price": str(Decimal(10).quantize(LEAST_PRICE)),
        "quantity": "100.00000000",
        "kafka_partition": 0,
        "kafka_offset": 0,
    }
    assert [row["kafka_offset"] for row in finding.examples] == [0, 7]


@given(messages(symbols=3))
@settings(max_examples=50, deadline=None)
def test_clean_trades_are_in_order_however_their_rows_lie(rows):
    trades = clean_day(raw_table(rows), PROFILE).trades

    assert trades_in_order(trades.sort_by([("price", "ascending")])).passed


@pytest.mark.parametrize(
    ("orders", "seconds", "numbers", "wrong"),
    [
        ((1, 2, 3), (0, 1, 2), (None, None, None), 0),
        ((1, 2, 3), (0, 0, 0), (None, 1, 2), 0),
        ((1, 2, 3), (0, 2, 1), (None, None, None), 1),
        ((1, 2, 3), (0, 0, 0), (1, None, 2), 1),
        ((1, 2, 3), (0, 0, 0), (2, 1, 3), 1),
        ((1, 2, 4), (0, 1, 2), (None, None, None), 1),
        ((1, 2, 2), (0, 1, 2), (None, None, None), 1),
        ((2, 3, 4), (0, 1, 2), (None, None, None), 1),
        ((1, 2, None), (0, 1, 2), (None, None, None), 1),
    ],
)
def test_a_trade_out_of_order_is_an_error_that_shows_it(orders, seconds, numbers, wrong):
    said = zip(orders, seconds, numbers, strict=True)
    rows = [
        trade(n, trade_order=order, exchange_timestamp=at(second), sequence_number=number)
        for n, (order, second, number) in enumerate(said)
    ]
    other = trade(9, symbol="RIO", trade_order=1)

    finding = trades_in_order(trades_table([*rows, other]))

    assert (finding.passed, finding.severity) == (wrong == 0, Severity.ERROR)
    assert finding.numbers == {"trades": 4, "out_of_order": wrong}
    assert len(finding.examples) == wrong


def test_cancels_and_corrections_that_name_no_trade_are_a_warning_that_shows_what_they_name():
    finding = unmatched_amendments(
        raw_table(
            [
                message(0),
                message(1, action="CANCEL", corrects_trade_id="t0"),
                message(2, action="CANCEL", corrects_trade_id="gone"),
                message(3, action="CORRECT", trade_id="c", corrects_trade_id="gone, too"),
            ]
        )
    )

    assert (finding.passed, finding.severity) == (False, Severity.WARN)
    assert finding.numbers == {"unmatched_cancels": 1, "unmatched_corrections": 1}
    assert finding.examples == (
        {"symbol": "BHP", "names": "gone", "action": "CANCEL", "kafka_partition": 0, "kafka_offset": 2},
        {"symbol": "BHP", "names": "gone, too", "action": "CORRECT", "kafka_partition": 0, "kafka_offset": 3},
    )


def test_trades_that_are_the_messages_are_complete():
    finding = completeness([message(0), message(1), dead_letter(2)], [trade(0), trade(1)])

    assert finding.passed
    assert finding.numbers["expected"] == 2


def test_a_trade_that_was_lost_is_missing():
    finding = completeness([message(0), message(1)], [trade(0)])

    assert (finding.passed, finding.numbers["missing"]) == (False, 1)
    assert finding.examples == ({"symbol": "BHP", "trade_id": "t1", "problem": "missing"},)


def test_a_trade_that_no_message_reports_is_unexpected():
    finding = completeness([message(0)], [trade(0), trade(9)])

    assert (finding.passed, finding.numbers["unexpected"]) == (False, 1)


def test_a_trade_on_two_rows_is_repeated():
    finding = completeness([message(0)], [trade(0), trade(0)])

    assert (finding.passed, finding.numbers["repeated"]) == (False, 1)


def test_a_trade_that_a_dead_letter_reports_is_unexpected():
    finding = completeness([dead_letter(0)], [trade(0)])

    assert (finding.numbers["unexpected"], finding.numbers["unlike_message"]) == (1, 1)


def test_a_trade_with_the_values_of_a_dead_letter_is_unlike_any_message():
    finding = completeness([message(0, reject_reason="a field too many")], [trade(0)])

    assert (finding.numbers["unexpected"], finding.numbers["unlike_message"]) == (1, 1)


def test_a_cancelled_trade_that_stayed_is_unexpected():
    finding = completeness([message(0), message(1, action="CANCEL", trade_id="t0")], [trade(0)])

    assert (finding.passed, finding.numbers["unexpected"]) == (False, 1)


def test_a_cancel_that_names_nothing_is_counted_and_passes():
    finding = completeness([message(0), message(1, action="CANCEL", trade_id="gone")], [trade(0)])

    assert (finding.passed, finding.numbers["unmatched_cancels"]) == (True, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"price": Decimal(11)},
        {"quantity": Decimal(1)},
        {"conditions": ["XT"]},
        {"kafka_offset": 1},
        {"kafka_partition": 1},
        {"kafka_topic_id": "topic-b"},
    ],
)
def test_a_trade_that_does_not_say_what_its_message_says_is_found(change):
    finding = completeness([message(0)], [trade(0, **change)])

    assert (finding.passed, finding.numbers["unlike_message"]) == (False, 1)
    assert finding.examples[0]["problem"] == "unlike its message"


def correct(offset: int, own: str, corrects: str | None) -> Row:
    return message(offset, action="CORRECT", trade_id=own, corrects_trade_id=corrects, price=Decimal(offset))


def cancel(offset: int, names: str) -> Row:
    return message(offset, action="CANCEL", trade_id=f"x{offset}", corrects_trade_id=names)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([message(0), correct(1, "c1", "t0"), correct(2, "c2", "c1"), cancel(3, "c2")], 0),
        ([correct(1, "c1", "gone"), correct(2, "c2", "c1")], 1),
        ([correct(1, "c1", "c2"), correct(2, "c2", "c1"), correct(3, "c3", "c1")], 2),
        ([correct(1, "a", "b"), correct(2, "b", "c"), correct(3, "c", "b"), cancel(4, "a")], 2),
        ([message(0), message(1), correct(2, "c", "t1"), correct(3, "c", "t0"), cancel(4, "c")], 1),
        ([message(0), message(1), correct(2, "t1", "t0"), cancel(3, "t1")], 1),
        ([message(0, trade_id=""), message(1, trade_id=None), cancel(2, "kafka:topic-a:0:0")], 1),
        ([message(0), correct(1, "", "t0"), correct(2, "", None), cancel(3, "")], 2),
    ],
    ids=["chain", "unknown", "circle", "into a circle", "shared id", "id of a trade", "no ids", "no own ids"],
)
def test_amendments_of_amendments_are_followed_as_cleaning_follows_them(rows, expected):
    raw = raw_table(rows)
    day = clean_day(raw, PROFILE)

    finding = complete_against_raw(raw, day.trades)

    assert finding.passed
    assert finding.numbers["expected"] == day.counts.trades == expected
    assert finding.numbers["unmatched_cancels"] <= day.counts.unmatched_cancels


@given(messages(symbols=6, max_size=60), st.booleans())
@settings(max_examples=30, deadline=None)
def test_what_cleaning_makes_is_complete_and_unique_whatever_was_corrected_and_sent_again(rows, again):
    if again:
        rows = rows + [row | {"kafka_offset": row["kafka_offset"] + 100} for row in rows]
    raw = raw_table(rows)
    day = clean_day(raw, PROFILE)

    assert unique_trades(day.trades).passed
    finding = complete_against_raw(raw, day.trades)
    assert finding.passed
    assert finding.numbers["expected"] == day.counts.trades


@given(messages(symbols=6, max_size=30), st.data())
@settings(max_examples=10, deadline=None)
def test_one_trade_taken_away_is_always_missed(rows, data):
    raw = raw_table(rows)
    trades = clean_day(raw, PROFILE).trades
    if trades.num_rows:
        lost = data.draw(st.integers(0, trades.num_rows - 1))
        kept = pa.concat_tables([trades.slice(0, lost), trades.slice(lost + 1)])

        assert complete_against_raw(raw, kept).numbers["missing"] == 1


def test_prices_of_zero_or_less_and_negative_quantities_are_found_eligible_ones_first():
    neither: dict[str, Any] = {"price_eligible": False, "volume_eligible": False}
    finding = prices_positive(
        trades_table(
            [
                trade(0),
                trade(1, price=Decimal(0), **neither),
                trade(2, quantity=Decimal(-1), **neither),
                trade(3, price=Decimal(-5), price_eligible=False),
                trade(4, quantity=Decimal(0)),
            ]
        )
    )

    assert (finding.passed, finding.severity) == (False, Severity.ERROR)  # two of them are in the bars
    assert finding.numbers == {"nonpositive": 3, "eligible_nonpositive": 1}
    assert [row["trade_id"] for row in finding.examples] == ["t3", "t1", "t2"]


def test_a_negative_price_that_cleaning_let_in_is_not_in_the_bars():
    day = clean_day(raw_table([message(0, price=Decimal(-1))]), PROFILE)

    assert prices_positive(day.trades).numbers == {"nonpositive": 1, "eligible_nonpositive": 0}


def test_trades_inside_the_session_and_its_tolerance_pass():
    times = [at(-60), at(0), SESSION.close + timedelta(minutes=12)]
    finding = inside_session(trades_table(trade(i, exchange_timestamp=t) for i, t in enumerate(times)), SESSION, 1, 12)

    assert finding.passed
    assert finding.numbers == {
        "price_eligible": 3,
        "outside": 0,
        "session_open": "2026-03-10T13:29:00+00:00",
        "session_close": "2026-03-10T20:12:00+00:00",
    }


def test_price_eligible_trades_outside_the_session_are_a_warning():
    rows = [
        trade(0, exchange_timestamp=at(-61)),
        trade(1, exchange_timestamp=SESSION.close + timedelta(minutes=13)),
        trade(2, exchange_timestamp=at(-3600), price_eligible=False),
    ]
    finding = inside_session(trades_table(rows), SESSION, 1, 12)

    assert (finding.passed, finding.severity, finding.numbers["outside"]) == (False, Severity.WARN, 2)
    assert [row["trade_id"] for row in finding.examples] == ["t0", "t1"]


TOKYO = timezone(timedelta(hours=9))
LUNCH = (datetime(2026, 11, 20, 11, 30, tzinfo=TOKYO), datetime(2026, 11, 20, 12, 30, tzinfo=TOKYO))
WITH_LUNCH = Session(
    datetime(2026, 11, 20, 9, 0, tzinfo=TOKYO), datetime(2026, 11, 20, 15, 30, tzinfo=TOKYO), breaks=(LUNCH,)
)


def test_a_trade_in_the_lunch_break_is_outside_of_the_session():
    clocks = ["09:00:00", "11:29:59", "12:00:00", "12:30:00", "15:30:00"]
    times = [datetime.fromisoformat(f"2026-11-20T{clock}+09:00") for clock in clocks]
    trades = trades_table(trade(i, exchange_timestamp=instant) for i, instant in enumerate(times))
    finding = inside_session(trades, WITH_LUNCH, 1, 1)

    assert (finding.passed, finding.severity, finding.numbers["outside"]) == (False, Severity.WARN, 1)
    assert [row["trade_id"] for row in finding.examples] == ["t2"]
    assert "1 of 5 price-eligible trades lie outside" in finding.description
    assert "within the break from 2026-11-20T11:31:00+09:00 to 2026-11-20T12:29:00+09:00" in finding.description


@pytest.mark.parametrize(
    ("clock", "outside"),
    [
        ("08:57:59", 1),
        ("08:58:00", 0),
        ("11:33:00", 0),
        ("11:33:01", 1),
        ("12:27:59", 1),
        ("12:28:00", 0),
        ("15:33:00", 0),
        ("15:33:01", 1),
    ],
)
def test_the_tolerance_holds_at_each_open_and_close(clock: str, outside: int):
    instant = datetime.fromisoformat(f"2026-11-20T{clock}+09:00")
    finding = inside_session(trades_table([trade(0, exchange_timestamp=instant)]), WITH_LUNCH, 2, 3)
    assert finding.numbers["outside"] == outside


def test_a_break_shorter_than_the_tolerance_is_no_break():
    noon = datetime(2026, 11, 20, 12, 0, tzinfo=TOKYO)
    finding = inside_session(trades_table([trade(0, exchange_timestamp=noon)]), WITH_LUNCH, 30, 30)
    assert finding.passed
    assert "session_breaks" not in finding.numbers


def test_of_a_day_that_the_calendar_does_not_reach_it_is_said_that_nothing_is_known():
    rule = inside_session_rule(None, 1, 1, closed="calendar XSHG knows sessions up to 2026-12-31")
    trades = trades_table([trade(0)])
    finding = rule.conclude(rule.count(trades, trades))
    assert "outside of any session: calendar XSHG knows sessions" in finding.description


def test_on_a_day_without_a_session_every_trade_is_outside():
    finding = inside_session(trades_table([trade(0)]), None, 1, 1)

    assert (finding.passed, finding.numbers["outside"]) == (False, 1)
    assert "the exchange is closed" in finding.description
