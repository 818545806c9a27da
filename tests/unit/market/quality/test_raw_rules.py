from collections import Counter
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from market_rows import at, batches, dead_letter, message, raw_table

from k2_market.feeds.feed import SequenceScope
from k2_market.quality.finding import Severity
from k2_market.quality.raw_rules import dead_letters, duplicate_messages, sequence_gaps


def test_a_day_without_messages_passes():
    day = batches(raw_table([]))

    for finding in (dead_letters(day), duplicate_messages(day), sequence_gaps(day, SequenceScope.SYMBOL)):
        assert finding.passed
        assert finding.severity is Severity.WARN
        assert set(finding.numbers.values()) == {0}


def test_a_day_in_order_passes():
    raw = raw_table([message(0, sequence_number=1), message(1, sequence_number=2)])

    assert dead_letters(batches(raw)).passed
    assert duplicate_messages(batches(raw)).passed
    assert sequence_gaps(batches(raw), SequenceScope.SYMBOL).passed


def test_dead_letters_are_counted_by_reason_with_the_first_place_of_each():
    raw = raw_table(
        [
            message(0),
            dead_letter(9, "bad magic"),
            dead_letter(3, "null"),
            dead_letter(7, "bad magic", kafka_partition=1),
        ]
    )

    finding = dead_letters(batches(raw))

    assert not finding.passed
    assert finding.numbers == {"raw_rows": 4, "dead_letters": 3, "reasons": 2}
    assert finding.examples == (
        {"reason": "bad magic", "messages": 2, "first": "topic-a/0/9"},
        {"reason": "null", "messages": 1, "first": "topic-a/0/3"},
    )


def test_further_good_messages_leave_a_finding_of_dead_letters_the_same():
    rows = [message(0), dead_letter(1)]

    assert (
        dead_letters(batches(raw_table(rows))).fingerprint
        == dead_letters(batches(raw_table([*rows, message(2)]))).fingerprint
    )


def test_dead_letters_of_many_reasons_are_all_counted_and_some_shown():
    finding = dead_letters(batches(raw_table(dead_letter(i, f"reason {i}") for i in range(50))))

    assert finding.numbers["reasons"] == 50
    assert len(finding.examples) == 20


def test_a_trade_sent_twice_is_found_with_both_places():
    finding = duplicate_messages(batches(raw_table([message(5), message(8, trade_id="t5"), message(6)])))

    assert not finding.passed
    assert finding.numbers == {"duplicates": 1, "repeated_ids": 1, "conflicting_ids": 0}
    assert finding.examples == (
        {
            "symbol": "BHP",
            "trade_id": "t5",
            "messages": 2,
            "conflicting": "false",
            "first": "topic-a/0/5",
            "last": "topic-a/0/8",
        },
    )


def test_ids_that_stand_for_differing_trades_are_shown_first():
    raw = raw_table(
        [
            *(message(i, trade_id="a") for i in range(3)),
            message(3, trade_id="z"),
            message(4, trade_id="z", price=Decimal(11)),
            message(5, trade_id="y"),
            message(6, trade_id="y", conditions=["XT"]),
        ]
    )

    finding = duplicate_messages(batches(raw))

    assert finding.numbers == {"duplicates": 4, "repeated_ids": 3, "conflicting_ids": 2}
    assert [(row["trade_id"], row["conflicting"]) for row in finding.examples] == [
        ("y", "true"),
        ("z", "true"),
        ("a", "false"),
    ]


def test_what_cannot_repeat_is_no_duplicate():
    raw = raw_table(
        [
            message(0, trade_id="a"),
            message(1, trade_id="a", symbol="RIO"),
            message(2, trade_id="a", action="CORRECT"),
            message(3, trade_id="a", action="CANCEL"),
            message(4, trade_id=""),
            message(5, trade_id=""),
            dead_letter(6),
            dead_letter(7),
        ]
    )

    assert duplicate_messages(batches(raw)).passed


def test_every_missing_range_is_named_with_its_neighbours():
    raw = raw_table(message(i, sequence_number=n, exchange_timestamp=at(n)) for i, n in enumerate([1, 2, 5, 9]))

    finding = sequence_gaps(batches(raw), SequenceScope.SYMBOL)

    assert not finding.passed
    assert finding.numbers == {"gaps": 2, "missing": 5, "keys": 1}
    assert finding.examples[0] == {
        "key": "BHP",
        "first": 3,
        "last": 4,
        "missing": 2,
        "before": "2026-03-10T13:30:02+00:00",
        "after": "2026-03-10T13:30:05+00:00",
    }


def test_a_thousand_missing_ranges_are_shown_and_all_counted():
    finding = sequence_gaps(
        batches(raw_table(message(i, sequence_number=2 * i) for i in range(1_101))), SequenceScope.SYMBOL
    )

    assert finding.numbers["gaps"] == 1_100
    assert len(finding.examples) == 1_000


def test_a_feed_that_does_not_count_passes_and_says_so():
    finding = sequence_gaps(
        batches(raw_table([message(0, sequence_number=1), message(1, sequence_number=9)])), SequenceScope.NONE
    )

    assert finding.passed
    assert "no sequence numbers" in finding.description


def test_the_order_of_rows_does_not_change_a_finding():
    rows = [message(i, trade_id=f"t{i % 4}", sequence_number=i * 3 % 11, price=Decimal(i)) for i in range(1, 12)]
    rows += [dead_letter(i + 50, f"reason {i % 3}") for i in range(6)]
    forward, backward = raw_table(rows), raw_table(rows[::-1])

    assert dead_letters(batches(forward)) == dead_letters(batches(backward))
    assert duplicate_messages(batches(forward)) == duplicate_messages(batches(backward))
    assert sequence_gaps(batches(forward), SequenceScope.SYMBOL) == sequence_gaps(
        batches(backward), SequenceScope.SYMBOL
    )


said = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["BHP", "RIO", "CBA"]),
        "trade_id": st.sampled_from(["1", "2", "3", ""]),
        "sequence_number": st.none() | st.integers(1, 9),
        "price": st.sampled_from([Decimal(1), Decimal(2)]),
    }
)


@given(st.lists(said, max_size=25), st.integers(1, 10), st.integers(1, 10))
def test_a_day_in_batches_says_what_it_says_at_once(rows, rows_a_batch, compared_at_once):
    raw = raw_table([*(message(n, **row) for n, row in enumerate(rows)), dead_letter(99)])
    at_once, in_batches = batches(raw), batches(raw, rows_a_batch)

    assert dead_letters(in_batches) == dead_letters(at_once)
    assert duplicate_messages(in_batches, compared_at_once) == duplicate_messages(at_once)
    assert sequence_gaps(in_batches, SequenceScope.SYMBOL) == sequence_gaps(at_once, SequenceScope.SYMBOL)


@given(st.lists(said, max_size=25), st.integers(1, 10))
def test_repeated_ids_are_those_that_counting_finds(rows, rows_a_batch):
    raw = raw_table(message(n, **row) for n, row in enumerate(rows))
    told = Counter((row["symbol"], row["trade_id"]) for row in rows if row["trade_id"])
    prices = {key: {row["price"] for row in rows if (row["symbol"], row["trade_id"]) == key} for key in told}
    repeated = [key for key, count in told.items() if count > 1]

    assert duplicate_messages(batches(raw, rows_a_batch)).numbers == {
        "duplicates": sum(told[key] - 1 for key in repeated),
        "repeated_ids": len(repeated),
        "conflicting_ids": sum(len(prices[key]) > 1 for key in repeated),
    }
