"""Setting plain trades aside changes no finding: whatever is wrong with a day, sets over all of it say the same."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import IDS, Row, message, messages, raw_table, trade, trades_table

from k2_market.feeds.feed import Conditions, PriceRange
from k2_market.frames.symbol_parts import symbol_parts
from k2_market.quality.prefilter import without_plain_trades
from k2_market.quality.trade_rules import (
    COMPLETE_AGAINST_RAW,
    UNIQUE_TRADES,
    TradeChecks,
    complete_against_raw,
    count_by_sets,
    prices_positive,
    prices_positive_rule,
    unique_trades,
)
from k2_market.trades.cleaning import clean_day

PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))

changes = st.fixed_dictionaries(
    {},
    optional={
        "symbol": st.sampled_from(["BHP", "RIO"]),
        "trade_id": st.sampled_from([*IDS, "kafka:topic-a:0:0"]),
        "price": st.sampled_from([Decimal("10.5"), Decimal(7)]),
        "quantity": st.just(Decimal(5)),
        "conditions": st.sampled_from([[], ["XT"], ["XT", "AV"]]),
        "kafka_partition": st.integers(0, 2),
        "kafka_offset": st.integers(0, 12),
    },
)
raw_changes = changes | st.fixed_dictionaries(
    {},
    optional={
        "reject_reason": st.just("no schema"),
        "trade_id": st.sampled_from([None, "", *IDS]),
        "action": st.sampled_from(["NEW", "CANCEL", None]),
        "conditions": st.sampled_from([None, [None]]),
        "corrects_trade_id": st.sampled_from(["", *IDS, "kafka:topic-a:0:0"]),
        "kafka_topic_id": st.just("topic-b"),
    },
)


def spoiled(rows: list[Row], data: st.DataObject, kinds: st.SearchStrategy[Row]) -> list[Row]:
    """Some rows left out, some there again, and some of both changed."""
    places = st.lists(st.integers(0, len(rows) - 1), max_size=3) if rows else st.just([])
    lost, again = set(data.draw(places)), data.draw(places)
    kept = [row for place, row in enumerate(rows) if place not in lost] + [rows[place] for place in again]
    changed = {data.draw(st.integers(0, len(kept) - 1)): data.draw(kinds) for _ in range(2)} if kept else {}
    return [row | changed.get(place, {}) for place, row in enumerate(kept)]


@settings(max_examples=60, deadline=None)
@given(messages(symbols=3, max_size=12), st.data())
def test_with_or_without_plain_trades_the_finding_is_the_same(rows, data):
    raw = raw_table(rows)
    trades = trades_table(spoiled(clean_day(raw, PROFILE).trades.to_pylist(), data, changes))
    raw = raw_table(spoiled(rows, data, raw_changes))

    assert complete_against_raw(raw, trades) == COMPLETE_AGAINST_RAW.conclude(count_by_sets(raw, trades, raw, trades))


@pytest.mark.parametrize(
    "change",
    [
        {"action": "CANCEL"},
        {"action": "CORRECT", "corrects_trade_id": "t9"},
        {"action": None},
        {"reject_reason": "no schema"},
        {"trade_id": ""},
        {"trade_id": None},
        {"trade_id": "t9"},
        {"symbol": "RIO"},
        {"price": Decimal(11)},
        {"quantity": Decimal(1)},
        {"conditions": ["XT"]},
        {"conditions": None},
        {"conditions": [None]},
        {"kafka_offset": 7},
        {"kafka_partition": 1},
        {"kafka_topic_id": "topic-b"},
    ],
    ids=str,
)
def test_a_trade_whose_message_says_otherwise_in_one_thing_is_not_plain_and_is_found(change):
    raw, trades = raw_table([message(0) | change]), trades_table([trade(0)])

    assert without_plain_trades(raw, trades).plain == 0
    assert not complete_against_raw(raw, trades).passed


@settings(max_examples=25, deadline=None)
@given(messages(symbols=3, max_size=12), st.data(), st.integers(1, 8))
def test_a_day_judged_in_parts_is_found_as_it_is_judged_at_once(rows, data, size):
    raw = raw_table(rows)
    trades = trades_table(spoiled(clean_day(raw, PROFILE).trades.to_pylist(), data, changes)).sort_by("symbol")

    judgement = TradeChecks((UNIQUE_TRADES, COMPLETE_AGAINST_RAW, prices_positive_rule(PriceRange.POSITIVE)))
    for part in symbol_parts(raw, trades, rows_a_part=size):
        judgement.see(*part)

    assert judgement.findings() == (unique_trades(trades), complete_against_raw(raw, trades), prices_positive(trades))


def test_of_a_usual_day_only_amended_trades_are_left():
    rows = [message(number) for number in range(50)] + [message(50, action="CANCEL", corrects_trade_id="t7")]
    raw = raw_table(rows)

    left = without_plain_trades(raw, clean_day(raw, PROFILE).trades)

    assert left.plain == 49
    assert left.raw["trade_id"].to_pylist() == ["t7", "t50"]
    assert (left.trades.num_rows, left.unlike.num_rows, left.messages.num_rows) == (0, 0, 0)


def test_places_that_no_number_of_63_bits_holds_leave_everything_to_sets():
    far = {"kafka_offset": 2**62, "kafka_partition": 9}
    raw, trades = raw_table([message(0, **far)]), trades_table([trade(0, **far)])

    left = without_plain_trades(raw, trades)

    assert (left.plain, left.trades, left.raw) == (0, trades, raw)
    assert complete_against_raw(raw, trades).passed


def test_a_day_of_nothing_leaves_nothing():
    assert without_plain_trades(raw_table([]), trades_table([])).plain == 0
    assert isinstance(without_plain_trades(raw_table([]), trades_table([])).raw, pa.Table)
