from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.simulation.market_simulator import SimulationError, simulate_day
from k2_market.sources.trade import SOURCE_TRADE
from k2_market.values.symbols import symbol_fault

FEEDS = load_feeds([SHIPPED_FEEDS])
SIM = FEEDS["sim"]
DAY = date(2026, 11, 20)
SESSION = Session(datetime(2026, 11, 20, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 21, 0, tzinfo=UTC))
OPEN_US, CLOSE_US = (int(instant.timestamp()) * 1_000_000 for instant in (SESSION.open, SESSION.close))


def simulate(trades: int = 20_000, seed: int = 7, symbols: int = 50, feed: Feed = SIM) -> pl.DataFrame:
    return simulate_day(feed, SESSION, DAY, trades, seed, symbols)


@pytest.fixture(scope="module")
def day() -> pl.DataFrame:
    return simulate()


def test_the_same_seed_gives_the_same_day_and_another_seed_another():
    assert simulate().equals(simulate())
    assert not simulate().equals(simulate(seed=8))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3_000), st.integers(1, 200), st.integers(0, 2**32))
def test_every_day_has_as_many_trades_as_asked_for_with_sequence_numbers_from_one_without_holes(trades, symbols, seed):
    day = simulate(trades, seed, symbols)

    assert day.schema == SOURCE_TRADE
    assert day.height == trades
    for _, rows in day.group_by("symbol"):
        assert rows["sequence_number"].sort().to_list() == list(range(1, rows.height + 1))
    assert day.select(pl.struct("symbol", "trade_id").is_unique().all()).item()
    assert (day["price"] > 0).all()
    assert (day["quantity"] > 0).all()


def test_trades_come_in_time_order_and_each_symbols_numbers_with_them(day):
    assert day["exchange_timestamp_us"].is_sorted()
    for _, rows in day.group_by("symbol", maintain_order=True):
        assert rows["sequence_number"].is_sorted()


def test_trades_lie_in_the_session_and_the_auction_at_its_close(day):
    assert day["exchange_timestamp_us"].min() >= OPEN_US
    assert day["exchange_timestamp_us"].max() < CLOSE_US + SIM.session.minutes_after * 60_000_000
    assert day["trade_date"].unique().to_list() == [DAY]
    assert (day["received_timestamp_us"] > day["exchange_timestamp_us"]).all()


def test_each_auction_has_one_price_and_one_instant_a_symbol_and_much_volume(day):
    opening = day.filter(pl.col("exchange_timestamp_us") < OPEN_US + 2_000_000)
    closing = day.filter(pl.col("exchange_timestamp_us") >= CLOSE_US)
    for auction in (opening, closing):
        assert auction.height > 100
        by_symbol = auction.group_by("symbol").agg(pl.col("price", "exchange_timestamp_us").n_unique())
        assert by_symbol.select((pl.col("price", "exchange_timestamp_us") == 1).all()).row(0) == (True, True)
    assert closing["quantity"].mean() > 3 * day["quantity"].median()


def test_few_symbols_have_most_of_the_trades(day):
    shares = day["symbol"].value_counts(sort=True)["count"] / day.height

    assert 0.18 < shares[0] < 0.27  # Zipf over 50 symbols gives the first one 22 %
    assert shares[:10].sum() > 0.6


def test_arrivals_are_denser_at_both_ends_of_the_day(day):
    part = (day["exchange_timestamp_us"] - OPEN_US) / (CLOSE_US - OPEN_US)
    first, middle, last = (part.is_between(a, b).sum() for a, b in ((0, 0.1), (0.45, 0.55), (0.9, 1)))

    assert first > 2 * middle
    assert last > 2 * middle


def test_arrivals_come_in_bursts(day):
    hours = day.with_columns(second=(pl.col("exchange_timestamp_us") - OPEN_US) // 1_000_000).filter(
        pl.col("second").is_between(2 * 3600, 4 * 3600 - 1)
    )
    counts = hours.group_by("symbol", "second").len()["len"].to_numpy().astype(np.float64)
    seconds = 2 * 3600 * hours["symbol"].n_unique()
    mean = counts.sum() / seconds
    variance = (counts**2).sum() / seconds - mean**2

    assert variance / mean > 1.2  # trades that ignored each other would give 1


def test_prices_walk_on_a_grid_of_cents_and_lots_are_round(day):
    assert all(price % Decimal("0.01") == 0 for price in day["price"])
    assert all(quantity % 100 == 0 for quantity in day["quantity"])
    market = day.filter(pl.col("conditions").list.len() == 0, pl.col("action") == "NEW")
    for _, rows in market.group_by("symbol"):
        steps = rows["price"].diff().drop_nulls().abs()
        assert steps.is_empty() or steps.max() <= Decimal("0.02")


def test_a_symbol_opens_near_its_usual_price_on_every_day_and_with_every_seed(day):
    def first_prices(of: pl.DataFrame) -> pl.DataFrame:
        return of.filter(pl.col("conditions").list.len() == 0).group_by("symbol", maintain_order=True).first()

    other = first_prices(simulate_day(SIM, SESSION, DAY + timedelta(days=1), day.height, seed=99, symbols=20))
    both = first_prices(day).join(other, on="symbol")
    moved = (both["price_right"].cast(pl.Float64) / both["price"].cast(pl.Float64) - 1).abs()

    assert both.height > 10
    assert moved.max() < 0.06


def test_crossings_have_an_excluded_condition_and_a_price_off_the_market(day):
    crossings = day.filter(pl.col("conditions").list.len() > 0)

    assert 0.002 < crossings.height / day.height < 0.008
    assert set(crossings["conditions"].explode()) == SIM.conditions.no_price
    market = day.filter(pl.col("conditions").list.len() == 0).select("symbol", "exchange_timestamp_us", usual="price")
    beside = crossings.join_asof(
        market, on="exchange_timestamp_us", by="symbol", strategy="nearest", check_sortedness=False
    )
    assert (abs(beside["price"].cast(pl.Float64) / beside["usual"].cast(pl.Float64) - 1) > 0.02).all()


def test_cancels_and_corrections_name_an_earlier_trade_of_their_symbol(day):
    amendments = day.filter(pl.col("action") != "NEW")
    assert amendments["action"].value_counts().sort("action").rows() == [("CANCEL", 20), ("CORRECT", 20)]

    named = amendments.join(day, left_on=["symbol", "corrects_trade_id"], right_on=["symbol", "trade_id"])
    assert named.height == amendments.height
    assert (named["action_right"] == "NEW").all()
    assert (named["exchange_timestamp_us"] - named["exchange_timestamp_us_right"] >= 1_000_000).all()
    changed = named["price"] != named["price_right"]
    assert (changed == (named["action"] == "CORRECT")).all()


def test_symbols_are_symbols(day):
    assert [symbol_fault(symbol) for symbol in day["symbol"].unique()] == [None] * 50


def test_a_real_feed_gets_no_invented_trades():
    with pytest.raises(SimulationError, match="feed asx: mic is 'XASX', expected 'XXXX'"):
        simulate(feed=FEEDS["asx"])


def test_a_market_that_never_closes_has_no_auctions():
    always = SIM.model_copy(update={"calendar": "24/7"})

    day = simulate_day(always, Session(SESSION.open, SESSION.open + timedelta(days=1)), DAY, 5_000, seed=1)

    assert day.height == 5_000
    assert day["exchange_timestamp_us"].n_unique() > 4_990
