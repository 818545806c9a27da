"""Holds cleaning to its rules, one by one, and to a slow reference on generated days."""

from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import OPEN, Row, at, dead_letter, message, messages, raw_table

from k2_market.feeds.feed import Conditions
from k2_market.schemas.tables import TRADES
from k2_market.trades.cleaning import CleanDay, IncompleteTradeError, clean_day

PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))


def clean(*rows: Row) -> CleanDay:
    return clean_day(raw_table(rows), PROFILE)


def trade_ids(day: CleanDay) -> list[str]:
    return day.trades["trade_id"].to_pylist()


def only_trade(day: CleanDay) -> dict[str, Any]:
    (trade,) = day.trades.to_pylist()
    return trade


def test_no_messages_make_no_trades():
    day = clean()

    assert day.trades.schema.equals(TRADES)
    assert day.trades.num_rows == 0
    assert set(asdict(day.counts).values()) == {0}


def test_the_clean_day_has_exactly_the_columns_of_trades():
    day = clean(message(0))

    assert day.trades.schema.equals(TRADES)
    assert only_trade(day) == {
        "trade_date": OPEN.date(),
        "symbol": "BHP",
        "exchange_timestamp": OPEN,
        "sequence_number": None,
        "trade_order": 1,
        "trade_id": "t0",
        "price": Decimal("10.00000000"),
        "quantity": Decimal("100.00000000"),
        "side": "BUY",
        "conditions": [],
        "currency": "AUD",
        "price_eligible": True,
        "volume_eligible": True,
        "corrected": False,
        "received_timestamp": None,
        "kafka_topic_id": "topic-a",
        "kafka_partition": 0,
        "kafka_offset": 0,
    }


def test_dead_letters_are_left_out():
    day = clean(dead_letter(0), message(1), dead_letter(2))

    assert trade_ids(day) == ["t1"]
    assert day.counts.dead_letters == 2


def test_a_repeated_message_is_one_trade_and_the_lowest_offset_stays():
    day = clean(message(7, trade_id="x"), message(3, trade_id="x"))

    assert only_trade(day)["kafka_offset"] == 3
    assert (day.counts.duplicates, day.counts.conflicting_ids) == (1, 0)


def test_offsets_near_the_end_of_64_bits_are_compared_as_well():
    day = clean(
        message(2**63 - 1, trade_id="x", kafka_partition=9), message(2**63 - 2, trade_id="x", kafka_partition=9)
    )

    assert only_trade(day)["kafka_offset"] == 2**63 - 2


def test_the_same_trade_id_in_another_symbol_is_another_trade():
    assert clean(message(0, trade_id="x"), message(1, trade_id="x", symbol="RIO")).counts.trades == 2


def test_an_id_used_for_two_differing_trades_keeps_the_first_and_is_counted_once():
    day = clean(*(message(offset, trade_id="x", price=Decimal(10 + offset)) for offset in range(3)))

    assert only_trade(day)["price"] == 10
    assert (day.counts.duplicates, day.counts.conflicting_ids) == (2, 1)


def test_trades_without_an_id_are_never_repetitions():
    day = clean(message(0, trade_id=""), message(1, trade_id=""), message(2, trade_id=None))

    assert day.counts.trades == 3
    assert trade_ids(day) == ["kafka:topic-a:0:0", "kafka:topic-a:0:1", "kafka:topic-a:0:2"]


def test_fills_of_equal_content_are_kept_apart_by_their_ids():
    assert clean(message(0), message(1)).counts == clean(message(5), message(9)).counts
    assert clean(message(0), message(1)).counts.trades == 2


def test_a_cancel_takes_out_the_trade_it_names():
    day = clean(message(0), message(1), message(2, action="CANCEL", corrects_trade_id="t0"))

    assert trade_ids(day) == ["t1"]
    assert (day.counts.cancels, day.counts.cancelled, day.counts.unmatched_cancels) == (1, 1, 0)


def test_a_cancel_that_names_no_other_names_its_own_id():
    assert clean(message(0), message(1, action="CANCEL", trade_id="t0")).counts.trades == 0


def test_a_cancel_of_the_same_id_in_another_symbol_leaves_the_trade():
    day = clean(message(0), message(1, action="CANCEL", symbol="RIO", trade_id="t0"))

    assert trade_ids(day) == ["t0"]
    assert day.counts.unmatched_cancels == 1


def test_a_cancel_counts_whichever_side_of_its_trade_it_stands():
    day = clean(message(0, action="CANCEL", corrects_trade_id="t5"), message(5))

    assert day.counts.trades == 0


def test_a_correction_gives_new_values_and_leaves_the_trade_its_place_in_the_market():
    day = clean(
        message(0, sequence_number=1, exchange_timestamp=at(1)),
        message(
            9,
            action="CORRECT",
            trade_id="c1",
            corrects_trade_id="t0",
            price=Decimal("12.5"),
            quantity=Decimal(7),
            conditions=["XT"],
            side="SELL",
            sequence_number=50,
            exchange_timestamp=at(3600),
            received_timestamp=at(3601),
        ),
    )

    trade = only_trade(day)
    assert (trade["trade_id"], trade["exchange_timestamp"], trade["sequence_number"]) == ("t0", at(1), 1)
    assert (trade["price"], trade["quantity"], trade["side"]) == (Decimal("12.5"), Decimal(7), "SELL")
    assert (trade["conditions"], trade["price_eligible"], trade["volume_eligible"]) == (["XT"], False, True)
    assert (trade["kafka_offset"], trade["received_timestamp"], trade["corrected"]) == (9, at(3601), True)


def test_of_several_corrections_the_last_message_counts():
    day = clean(
        message(5, action="CORRECT", trade_id="t0", price=Decimal(12)),
        message(0),
        message(4, action="CORRECT", trade_id="t0", price=Decimal(11)),
    )

    assert only_trade(day)["price"] == 12
    assert day.counts.corrections == 2


def test_a_corrected_trade_keeps_its_place_among_trades_of_its_instant():
    day = clean(
        message(0, price=Decimal(10)),
        message(1, price=Decimal(11)),
        message(9, action="CORRECT", trade_id="c", corrects_trade_id="t0", price=Decimal("10.01")),
    )

    table = day.trades
    assert trade_ids(day) == ["t0", "t1"]
    assert table["trade_order"].to_pylist() == [1, 2]
    assert table["price"].to_pylist() == [Decimal("10.01"), Decimal(11)]
    assert table["kafka_offset"].to_pylist() == [9, 1]


def test_a_correction_back_to_earlier_values_counts_and_leads_back_to_the_first_message_that_says_so():
    said = {"action": "CORRECT", "trade_id": "c", "corrects_trade_id": "t0"}
    day = clean(message(0), *(message(n, **said, price=Decimal(price)) for n, price in ((1, 10), (2, 11), (3, 10))))

    assert (only_trade(day)["price"], only_trade(day)["kafka_offset"]) == (10, 1)
    assert (day.counts.corrections, day.counts.duplicates) == (2, 1)


def test_an_earlier_correction_that_is_delivered_again_under_its_sequence_number_changes_nothing():
    said = {"action": "CORRECT", "trade_id": "c", "corrects_trade_id": "t0"}
    prices = ((1, 10, 7), (2, 11, 8), (3, 10, 7))
    day = clean(message(0), *(message(n, **said, price=Decimal(p), sequence_number=s) for n, p, s in prices))

    assert (only_trade(day)["price"], only_trade(day)["kafka_offset"]) == (11, 2)


def test_of_corrections_of_a_trade_never_reported_the_first_gives_the_place_and_the_last_the_values():
    said = {"action": "CORRECT", "corrects_trade_id": "gone"}
    day = clean(
        message(1, **said, trade_id="c1", price=Decimal(10), exchange_timestamp=at(1)),
        message(2, **said, trade_id="c2", price=Decimal(11), exchange_timestamp=at(9)),
    )

    trade = only_trade(day)
    assert (trade["trade_id"], trade["exchange_timestamp"], trade["price"]) == ("gone", at(1), 11)


def test_a_correction_of_a_correction_is_followed_back_to_the_trade():
    day = clean(
        message(0),
        message(1, action="CORRECT", trade_id="c1", corrects_trade_id="t0", price=Decimal(11)),
        message(2, action="CORRECT", trade_id="c2", corrects_trade_id="c1", price=Decimal(12)),
    )

    assert (only_trade(day)["trade_id"], only_trade(day)["price"]) == ("t0", 12)


def test_a_cancel_of_a_correction_cancels_the_trade():
    day = clean(
        message(0),
        message(1, action="CORRECT", trade_id="c1", corrects_trade_id="t0", price=Decimal(11)),
        message(2, action="CANCEL", trade_id="c2", corrects_trade_id="c1"),
    )

    assert day.counts.trades == 0


def test_corrections_that_name_each_other_are_each_taken_for_the_trade_they_name():
    day = clean(
        message(1, action="CORRECT", trade_id="c1", corrects_trade_id="c2"),
        message(2, action="CORRECT", trade_id="c2", corrects_trade_id="c1"),
        message(3, action="CORRECT", trade_id="c3", corrects_trade_id="c1"),
    )

    assert trade_ids(day) == ["c2", "c1"]
    assert day.counts.unmatched_corrections == 2


def test_of_corrections_that_share_an_id_the_least_name_leads_on_whatever_their_order():
    rows = [
        message(0),
        message(1),
        message(2, action="CORRECT", trade_id="c", corrects_trade_id="t1", price=Decimal(11)),
        message(3, action="CORRECT", trade_id="c", corrects_trade_id="t0", price=Decimal(12)),
        message(4, action="CORRECT", trade_id="d", corrects_trade_id="c", price=Decimal(13)),
    ]

    assert clean(*rows).trades["price"].to_pylist() == [13, 11]


def test_an_id_that_a_trade_has_names_that_trade_though_a_correction_has_it_too():
    day = clean(
        message(0),
        message(1),
        message(2, action="CORRECT", trade_id="t1", corrects_trade_id="t0", price=Decimal(11)),
        message(3, action="CANCEL", trade_id="x", corrects_trade_id="t1"),
    )

    assert (only_trade(day)["trade_id"], only_trade(day)["price"]) == ("t0", 11)


def test_a_correction_of_an_unknown_trade_is_taken_as_that_trade():
    day = clean(message(3, action="CORRECT", trade_id="c1", corrects_trade_id="gone", price=Decimal(11)))

    assert (only_trade(day)["trade_id"], only_trade(day)["corrected"]) == ("gone", True)
    assert day.counts.unmatched_corrections == 1


def test_a_cancelled_trade_stays_so_whatever_corrects_it_later():
    day = clean(
        message(0),
        message(1, action="CANCEL", trade_id="t0"),
        message(2, action="CORRECT", trade_id="t0", price=Decimal(11)),
    )

    assert day.counts.trades == 0
    assert (day.counts.cancelled, day.counts.unmatched_corrections) == (1, 0)


def test_repeated_cancels_and_corrections_count_as_duplicates():
    correction = {"action": "CORRECT", "trade_id": "t0", "price": Decimal(11)}
    cancel = {"action": "CANCEL", "trade_id": "t1"}
    day = clean(
        message(0),
        message(1),
        message(2, **correction),
        message(3, **cancel),
        message(4, **correction),
        message(5, **cancel),
    )

    assert (day.counts.duplicates, day.counts.corrections, day.counts.cancels) == (2, 1, 1)
    assert only_trade(day)["kafka_offset"] == 2


def test_corrections_without_an_id_of_their_own_are_repetitions_by_content():
    correction = {"action": "CORRECT", "trade_id": "", "corrects_trade_id": "t0", "price": Decimal(11)}
    day = clean(message(0), message(1, **correction), message(2, **correction))

    assert (day.counts.corrections, day.counts.duplicates) == (1, 1)
    assert (only_trade(day)["kafka_offset"], only_trade(day)["price"]) == (1, 11)


def test_a_chain_of_many_corrections_is_followed_at_once():
    rows = [message(0)] + [
        message(i, action="CORRECT", trade_id=f"t{i}", corrects_trade_id=f"t{i - 1}", price=Decimal(i + 1))
        for i in range(1, 3_000)
    ]

    assert (only_trade(clean(*rows))["trade_id"], only_trade(clean(*rows))["price"]) == ("t0", 3_000)


def test_trades_stand_in_market_order_with_ties_in_feed_order():
    day = clean(
        message(9, trade_id="d", exchange_timestamp=at(1), sequence_number=2),
        message(8, trade_id="e", exchange_timestamp=at(1), sequence_number=10),
        message(7, trade_id="c", exchange_timestamp=at(1), sequence_number=1),
        message(6, trade_id="b", exchange_timestamp=at(1), kafka_partition=1),
        message(7, trade_id="a", exchange_timestamp=at(1), kafka_partition=0, kafka_topic_id="topic-b"),
        message(1, trade_id="z", exchange_timestamp=at(2)),
        message(2, trade_id="0", symbol="ANZ", exchange_timestamp=at(5)),
    )

    assert trade_ids(day) == ["0", "a", "b", "c", "d", "e", "z"]


def test_trades_at_the_same_place_of_two_topics_stand_by_the_age_of_the_topic():
    rows = raw_table([message(0, trade_id=topic, kafka_topic_id=topic) for topic in ("a", "b")])

    assert clean_day(rows, PROFILE).trades["trade_id"].to_pylist() == ["a", "b"]
    assert clean_day(rows, PROFILE, topic_order=["b"]).trades["trade_id"].to_pylist() == ["b", "a"]


def test_timestamps_ages_apart_are_still_in_order():
    rows = [message(i, symbol=f"S{i % 3}", exchange_timestamp=OPEN + timedelta(days=i % 2 * 80_000)) for i in range(9)]

    table = clean(*rows).trades
    keys = list(zip(table["symbol"].to_pylist(), table["exchange_timestamp"].to_pylist(), strict=True))

    assert keys == sorted(keys)


def test_of_a_topic_made_anew_the_older_comes_first_when_the_caller_knows():
    rows = raw_table(
        [
            message(0, trade_id="t0", price=Decimal(2), kafka_topic_id="topic-a"),
            message(9, trade_id="t0", price=Decimal(1), kafka_topic_id="topic-z"),
        ]
    )

    assert clean_day(rows, PROFILE, topic_order=["topic-z", "topic-a"]).trades["price"].to_pylist() == [1]
    assert clean_day(rows, PROFILE).trades["price"].to_pylist() == [2]


def test_a_live_row_without_a_price_is_refused_by_its_place():
    with pytest.raises(IncompleteTradeError, match=r"topic-a/0/7: .* has no price"):
        clean(dead_letter(1), message(3), message(7, price=None))


def test_tables_in_chunks_and_with_large_strings_give_the_same():
    rows = [message(offset, exchange_timestamp=at(-offset)) for offset in range(6)]
    whole = raw_table(rows)
    large = pa.schema(
        [f.with_type(pa.large_string()) if f.type == pa.string() else f for f in whole.schema if f.name != "attributes"]
    )

    chunked = clean_day(pa.concat_tables([whole.slice(4), whole.slice(0, 4)]), PROFILE)
    widened = clean_day(whole.select(large.names).cast(large), PROFILE)

    assert chunked.trades.equals(clean_day(whole, PROFILE).trades)
    assert widened.trades.equals(clean_day(whole, PROFILE).trades)


# Generated days, against a reference that takes the messages one at a time.


@given(messages(), st.lists(st.integers(0, 2), max_size=2), st.randoms())
@settings(max_examples=150, deadline=None)
def test_cleaning_is_what_the_rules_say_message_by_message(rows, dead, random):
    shuffled = rows + [dead_letter(1000 + place) for place in range(len(dead))]
    random.shuffle(shuffled)

    day = clean(*shuffled)

    assert day.trades.to_pylist() == reference(rows)


@given(messages(), st.randoms())
@settings(max_examples=100, deadline=None)
def test_loading_everything_again_changes_not_a_bit(rows, random):
    again = [row | {"kafka_offset": row["kafka_offset"] + 100, "message_id": "again"} for row in rows]
    both = rows + again
    random.shuffle(both)

    once, twice = clean(*rows), clean(*both)

    assert twice.trades.equals(once.trades)
    assert twice.counts.duplicates == once.counts.duplicates + len(rows)


@given(messages(), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_the_counts_add_up(rows, dead):
    counts = clean(*rows, *(dead_letter(1000 + place) for place in range(dead))).counts

    assert counts.raw_rows == len(rows) + dead
    assert counts.raw_rows == (
        counts.dead_letters + counts.duplicates + counts.cancels + counts.corrections + counts.new_trades
    )
    assert counts.trades == counts.new_trades + counts.unmatched_corrections - counts.cancelled


def reference(rows: list[Row]) -> list[Row]:
    """The clean day of messages in Kafka order within each symbol, by plain loops."""
    new: dict[tuple[str, str], Row] = {}
    first_of: dict[str, Row] = {}
    amendments: list[tuple[Row, Row]] = []
    for row in rows:
        if row["action"] == "NEW":
            new.setdefault((row["symbol"], row["trade_id"]), row)
            continue
        content = repr({name: row[name] for name in row if not name.startswith(("kafka", "message_id"))})
        amendments.append((row, first_of.setdefault(content, row)))
    links: dict[tuple[str, str], str] = {}
    for row, _ in amendments:
        key, corrects = (row["symbol"], row["trade_id"]), row["corrects_trade_id"]
        if row["action"] == "CORRECT" and corrects not in (None, row["trade_id"]):
            links[key] = min(corrects, links.get(key, corrects))

    def named(row: Row) -> tuple[str, str]:
        symbol, direct = row["symbol"], row["corrects_trade_id"] or row["trade_id"]
        passed = [direct]
        while (symbol, passed[-1]) in links and (symbol, passed[-1]) not in new:
            passed.append(links[symbol, passed[-1]])
            if passed[-1] in passed[:-1]:
                return symbol, direct
        return symbol, passed[-1]

    corrections = [(row, first) for row, first in amendments if row["action"] == "CORRECT"]
    unnumbered = {named(row) for row, _ in corrections if row["sequence_number"] is None}
    places = dict(new)
    trades = {key: row | {"corrected": False} for key, row in new.items()}
    for row, first in corrections:
        symbol, name = named(row)
        if row is first or (symbol, name) in unnumbered:
            place = places.setdefault((symbol, name), row)
            trades[symbol, name] = first | {
                "trade_id": name,
                "exchange_timestamp": place["exchange_timestamp"],
                "sequence_number": place["sequence_number"],
                "corrected": True,
            }
    for row, _ in amendments:
        if row["action"] == "CANCEL":
            trades.pop(named(row), None)

    def order(key: tuple[str, str]) -> tuple[object, ...]:
        place = places[key]
        feed_order = (place["kafka_partition"], place["kafka_offset"])
        return key[0], place["exchange_timestamp"], place["sequence_number"] or 0, *feed_order

    heard: Counter[str] = Counter()
    clean_rows = []
    for key in sorted(trades, key=order):
        row = trades[key]
        heard[key[0]] += 1
        allowed = row["price"] > 0 and row["quantity"] >= 0
        clean_rows.append(
            {name: row.get(name) for name in TRADES.names}
            | {
                "trade_order": heard[key[0]],
                "price_eligible": allowed and not {"XT", "AV"} & set(row["conditions"]),
                "volume_eligible": allowed and "AV" not in row["conditions"],
            }
        )
    return clean_rows
