"""What a trade id is unique within: cleaning, the check of duplicates and the recomputation go by the feed's file."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import MIDNIGHT, Row, batches, message, raw_table

from k2_market.bars import minute_bars, roll_up
from k2_market.feeds.feed import Conditions, IdScope
from k2_market.feeds.id_scopes import columns_with_scope, ids_as_sent, named_by_symbol, once_in_feed
from k2_market.quality.raw_rules import duplicate_messages
from k2_market.quality.trade_rules import complete_against_raw, unique_trades
from k2_market.schemas.tables import DAY
from k2_market.trades.cleaning import COLUMNS_READ, clean_day
from k2_market.verification.trade_recomputation import (
    Eligibility,
    messages_by_symbol,
    named_in_scope,
    trade_differences,
    trades_of_symbol,
)

PROFILE = Conditions()
TAPE = [
    message(0, trade_id="1", exchange="XNYS", price=Decimal("222.39"), quantity=Decimal(27)),
    message(1, trade_id="1", exchange="XNAS", price=Decimal("222.41"), quantity=Decimal(50)),
    message(2, trade_id="2", exchange="XNYS", price=Decimal("222.40"), quantity=Decimal(10)),
]


def fitted(rows: list[Row], scope: IdScope) -> pa.Table:
    raw = raw_table(rows).select(columns_with_scope(COLUMNS_READ, scope))
    return once_in_feed(named_by_symbol(raw, scope).select(COLUMNS_READ), scope).rows


def cleaned(rows: list[Row], scope: IdScope) -> pa.Table:
    return clean_day(fitted(rows, scope), PROFILE).trades


def test_trades_of_two_venues_that_share_an_id_are_two_where_ids_are_unique_within_a_venue():
    trades = cleaned(TAPE, IdScope.VENUE)
    (bar,) = roll_up(minute_bars(trades, MIDNIGHT), DAY, MIDNIGHT, MIDNIGHT.replace(day=11)).to_pylist()

    assert (bar["high"], bar["volume"], bar["trade_count"]) == (Decimal("222.41"), Decimal(87), 3)
    assert sorted(trades["trade_id"].to_pylist()) == ["XNAS:1", "XNYS:1", "XNYS:2"]
    assert duplicate_messages(batches(raw_table(TAPE)), scope=IdScope.VENUE).passed


def test_the_same_tape_has_two_trades_where_ids_are_unique_within_a_symbol():
    assert cleaned(TAPE, IdScope.SYMBOL).num_rows == 2
    finding = duplicate_messages(batches(raw_table(TAPE)))
    assert finding.numbers["conflicting_ids"] == 1
    assert "unique within a symbol ([ids] unique_within)" in finding.description


def test_a_venue_that_repeats_its_own_id_is_still_a_duplicate():
    assert cleaned([*TAPE, TAPE[1] | {"kafka_offset": 9}], IdScope.VENUE).num_rows == 3


def test_a_cancel_names_the_trade_of_its_own_venue():
    cancel = message(7, trade_id="c", corrects_trade_id="1", action="CANCEL", exchange="XNAS")

    assert cleaned([*TAPE, cancel], IdScope.VENUE)["trade_id"].to_pylist() == ["XNYS:1", "XNYS:2"]


def test_an_id_of_another_symbol_is_a_repetition_where_ids_are_unique_within_the_feed():
    rows = [message(0, trade_id="1"), message(1, trade_id="1", symbol="RIO"), message(2, trade_id="2", symbol="RIO")]
    once = once_in_feed(raw_table(rows), IdScope.FEED)

    assert [(once.left_out, once.ids), cleaned(rows, IdScope.FEED).num_rows] == [(1, 1), 2]
    assert cleaned(rows, IdScope.SYMBOL).num_rows == 3
    finding = duplicate_messages(batches(raw_table(rows)), scope=IdScope.FEED)
    assert (finding.numbers["duplicates"], finding.numbers["conflicting_ids"]) == (1, 1)


def test_counts_of_a_day_hold_the_messages_that_were_left_out_before():
    counts = clean_day(raw_table([message(0)]), PROFILE).counts.with_repeated(2, 1)

    assert counts.raw_rows == counts.dead_letters + counts.duplicates + counts.cancels + counts.new_trades
    assert (counts.raw_rows, counts.duplicates, counts.conflicting_ids) == (3, 2, 1)


def test_a_trade_without_an_id_has_none_at_a_venue_either():
    raw = named_by_symbol(raw_table([message(0, trade_id="", exchange="X"), message(1, trade_id=None)]), IdScope.VENUE)

    assert raw["trade_id"].to_pylist() == ["", None]


def test_names_of_trades_lead_back_to_the_ids_that_were_sent():
    raw = named_by_symbol(raw_table([message(0, trade_id="a:b", exchange="X:Y")]), IdScope.VENUE)

    assert raw["trade_id"].to_pylist() == ["X_Y:a:b"]
    assert ids_as_sent(raw["trade_id"].to_pylist(), IdScope.VENUE) == {"a:b"}


DRAWN = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", ""]),
        st.sampled_from(["BHP", "RIO"]),
        st.sampled_from(["X", "Y:Z", ""]),
        st.sampled_from(["NEW", "NEW", "NEW", "CORRECT", "CANCEL"]),
        st.sampled_from(["topic-a", "topic-b"]),
        st.integers(0, 1),
        st.sampled_from([None, "truncated body"]),
    ),
    max_size=10,
)


@pytest.mark.parametrize("scope", IdScope)
@settings(deadline=None, max_examples=50)
@given(drawn=DRAWN)
def test_in_every_scope_trades_are_those_of_the_recomputation_and_of_the_sets(scope: IdScope, drawn):
    rows = [
        message(
            n,
            trade_id=trade_id,
            symbol=symbol,
            exchange=exchange,
            action=action,
            kafka_topic_id=topic,
            kafka_partition=partition,
            reject_reason=dead,
        )
        for n, (trade_id, symbol, exchange, action, topic, partition, dead) in enumerate(drawn)
    ]
    made = fitted(rows, scope)
    trades = clean_day(made, PROFILE).trades
    plain = named_in_scope(raw_table(rows), scope, [])

    by_symbol = dict(messages_by_symbol(plain, []))
    for symbol in ("BHP", "RIO"):
        expected = trades_of_symbol(by_symbol.get(symbol, []), [], lambda _: False)
        published = [row for row in trades.to_pylist() if row["symbol"] == symbol]
        assert trade_differences(symbol, expected, published, Eligibility(frozenset(), frozenset())) == []
    assert unique_trades(trades).passed
    assert complete_against_raw(made, trades).passed
