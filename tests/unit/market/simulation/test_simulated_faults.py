from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.messages.framing import framing_fault, schema_id_of
from k2_market.messages.outgoing import trade_messages
from k2_market.simulation.market_simulator import simulate_day
from k2_market.simulation.simulated_faults import UNKNOWN_SCHEMA_ID, Damage, Fault, PlantedFaults, damaged, plant

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
DAY = date(2026, 11, 20)
SESSION = Session(datetime(2026, 11, 20, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 21, 0, tzinfo=UTC))
NUMBER = ("symbol", "sequence_number")


def a_day(trades: int = 5_000, seed: int = 7) -> pl.DataFrame:
    return simulate_day(SIM, SESSION, DAY, trades, seed, symbols=20)


def numbers(planted: PlantedFaults, fault: Fault) -> set[tuple[str, int]]:
    return {
        (each.symbol, number)
        for each in planted.planted
        if each.fault is fault
        for first, last in each.sequence_numbers
        for number in range(first, last + 1)
    }


def sent(planted: PlantedFaults) -> pl.DataFrame:
    return planted.trades.with_columns(damage=planted.damage)


def test_without_faults_the_day_is_sent_as_it_is():
    planted = plant(a_day(), [], seed=1)

    assert planted.trades.equals(a_day())
    assert planted.damage.null_count() == 5_000
    assert planted.planted == ()


def test_the_same_seed_plants_the_same_faults():
    assert plant(a_day(), list(Fault), 3).planted == plant(a_day(), list(Fault), 3).planted
    assert plant(a_day(), list(Fault), 3).trades.equals(plant(a_day(), list(Fault), 3).trades)
    assert plant(a_day(), list(Fault), 3).planted != plant(a_day(), list(Fault), 4).planted


def test_gaps_are_exactly_the_numbers_that_are_not_sent_and_have_neighbours_that_are():
    planted = plant(a_day(), [Fault.GAPS], seed=1)

    missing = set(a_day().select(NUMBER).rows()) - set(planted.trades.select(NUMBER).rows())
    assert missing == numbers(planted, Fault.GAPS)
    assert missing
    there = set(planted.trades.select(NUMBER).rows())
    for each in planted.planted:
        for first, last in each.sequence_numbers:
            assert {(each.symbol, first - 1), (each.symbol, last + 1)} <= there


def test_late_trades_are_sent_after_all_others_in_their_own_order():
    planted = plant(a_day(), [Fault.LATE], seed=1)

    late = planted.trades.tail(planted.count(Fault.LATE))
    assert set(late.select(NUMBER).rows()) == numbers(planted, Fault.LATE)
    assert late["exchange_timestamp_us"].is_sorted()
    assert planted.trades.head(-late.height)["exchange_timestamp_us"].is_sorted()
    assert planted.trades.height == 5_000
    assert planted.count(Fault.LATE) == 5


def test_duplicates_are_the_same_message_twice():
    planted = plant(a_day(), [Fault.DUPLICATES], seed=1)

    twice = planted.trades.filter(pl.struct(planted.trades.columns).is_duplicated())
    assert set(twice.select(NUMBER).rows()) == numbers(planted, Fault.DUPLICATES)
    assert twice.height == 2 * planted.count(Fault.DUPLICATES) == 10


def test_negative_prices_are_those_told_of():
    planted = plant(a_day(), [Fault.NEGATIVE_PRICE], seed=1)

    negative = planted.trades.filter(pl.col("price") < 0)
    assert set(negative.select(NUMBER).rows()) == numbers(planted, Fault.NEGATIVE_PRICE)
    assert negative.height == 3
    assert planted.trades.with_columns(pl.col("price").abs()).equals(a_day())


@pytest.mark.parametrize(("fault", "count"), [(Fault.CORRUPT, 6), (Fault.NULL_VALUE, 2)])
def test_damaged_messages_are_copies_beside_the_good_ones(fault, count):
    planted = plant(a_day(), [fault], seed=1)

    copies = sent(planted).filter(pl.col("damage").is_not_null())
    assert set(copies.select(NUMBER).rows()) == numbers(planted, fault)
    assert copies.height == planted.count(fault) == count
    assert sent(planted).filter(pl.col("damage").is_null()).drop("damage").equals(a_day())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2_000), st.integers(0, 1_000), st.sets(st.sampled_from(Fault)))
def test_the_account_always_adds_up(trades, seed, faults):
    day = a_day(trades, seed)

    planted = plant(day, faults, seed)

    more = sum(planted.count(fault) for fault in (Fault.DUPLICATES, Fault.CORRUPT, Fault.NULL_VALUE))
    assert planted.trades.height == trades + more - planted.count(Fault.GAPS)
    assert {each.fault for each in planted.planted} <= faults
    hit = [number for fault in Fault for number in numbers(planted, fault)]
    assert len(hit) == len(set(hit)) == sum(each.count for each in planted.planted)
    amended = day.filter(pl.col("corrects_trade_id").is_not_null())
    spared = set(amended.select(NUMBER).rows())
    spared |= set(
        day.join(amended, left_on=["symbol", "trade_id"], right_on=["symbol", "corrects_trade_id"])
        .select(NUMBER)
        .rows()
    )
    assert spared.isdisjoint(hit)


def test_each_kind_of_damage_is_what_it_says():
    good = trade_messages(a_day(5), SIM, schema_id=7)
    (whole,) = {len(value or b"") for value in good.values[:1]}

    truncated, magic, unknown, null, untouched = damaged(
        good, [Damage.TRUNCATED, Damage.WRONG_MAGIC, Damage.UNKNOWN_SCHEMA, Damage.NULL_VALUE, None]
    ).values

    assert truncated is not None
    assert good.values[0] is not None
    assert good.values[0].startswith(truncated)
    assert 5 < len(truncated) < whole
    assert framing_fault(magic) == "magic byte 0x7b, expected 0x00"
    assert unknown is not None
    assert schema_id_of(unknown) == UNKNOWN_SCHEMA_ID
    assert null is None
    assert untouched == good.values[4]
