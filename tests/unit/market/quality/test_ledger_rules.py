"""What the ledger's rule says of a day is held to counting."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from market_rows import DAY, batches, message, raw_table

from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS
from k2_market.quality.ledger_rules import offsets_reconcile

PLACES = st.lists(
    st.tuples(st.sampled_from(["topic-a", "topic-b"]), st.integers(0, 1), st.integers(0, 12)), max_size=25
)


@given(PLACES, st.integers(0, 12), st.integers(1, 8))
def test_repeated_and_unknown_offsets_are_those_that_counting_finds(places, known, rows_a_batch):
    covered = RangeSet.of(OffsetRange("topic-a", partition, 0, known) for partition in (0, 1) if known)
    ledger = Ledger().with_batch(Batch("b", covered, messages=2 * known), {"topic-a": "trades"})
    rows = [message(offset, kafka_topic_id=topic, kafka_partition=partition) for topic, partition, offset in places]
    raw = raw_table(rows)

    found = offsets_reconcile(
        DAY, batches(raw, rows_a_batch), raw.num_rows, ledger, lambda: raw.select(list(OFFSET_COLUMNS))
    )

    told = Counter(places)
    assert found.numbers["rows_of_day"] == len(places)
    assert found.numbers["repeated_offsets"] == sum(count > 1 for count in told.values())
    assert found.numbers["offsets_not_in_ledger"] == sum(t != "topic-a" or o >= known for t, _, o in places)
    assert found.numbers["topics"] == len({topic for topic, _, _ in places})


def test_what_retention_removed_is_told_to_the_day_that_comes_after_it():
    lost = RangeSet.of([OffsetRange("topic-a", 0, 0, 5)])
    covered = RangeSet.of([OffsetRange("topic-a", 0, 5, 7)])
    ledger = Ledger().with_batch(Batch("b", covered, messages=2, lost=lost), {"topic-a": "trades"})

    def finding(*offsets):
        raw = raw_table(map(message, offsets))
        return offsets_reconcile(DAY, batches(raw), 2, ledger, lambda: raw.select(list(OFFSET_COLUMNS)))

    assert finding(5, 6).numbers["lost_to_retention"] == 5
    assert finding(6).numbers["lost_to_retention"] == 0


def test_an_unsound_day_of_twenty_thousand_ranges_is_judged_range_by_range_and_row_by_row():
    """Not each row against each range: that would outlast the time that a test gets."""
    covered = RangeSet({("topic-a", 0): tuple((n, n + 1) for n in range(0, 40_000, 2))})
    ledger = Ledger().with_batch(Batch("b", covered, messages=20_000), {"topic-a": "trades"})
    raw = raw_table(map(message, [*range(0, 39_998, 2), 7, 9]))

    found = offsets_reconcile(DAY, batches(raw, 10_000), 19_999, ledger, lambda: raw.select(list(OFFSET_COLUMNS)))

    assert not found.passed
    assert found.numbers["offsets_not_in_ledger"] == 2
    assert {"kind": "missing or hole", "range": "topic-a/0[39998,39999)"} in found.examples
