"""The ledger: what it admits, what it counts, and that its text is the same thing again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.errors import LedgerError
from k2_market.ledger.ledger import Batch, Ledger, join_batches
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet


def batch(name: str, start: int, end: int, *, messages: int | None = None, partition: int = 0) -> Batch:
    return Batch(
        name, RangeSet.of([OffsetRange("t", partition, start, end)]), end - start if messages is None else messages
    )


disjoint_batches = st.lists(st.integers(1, 20), min_size=1, max_size=8).map(
    lambda lengths: [
        batch(f"b{i}", sum(lengths[:i]), sum(lengths[: i + 1]), messages=length - i % 2 if length > 1 else length)
        for i, length in enumerate(lengths)
    ]
)


@given(disjoint_batches, st.randoms())
def test_the_order_of_disjoint_batches_does_not_matter(batches: list[Batch], random) -> None:
    def committed(each: list[Batch]) -> Ledger:
        ledger = Ledger()
        for b in each:
            ledger = ledger.with_batch(b, {"t": "topic"})
        return ledger

    shuffled = list(batches)
    random.shuffle(shuffled)
    one, other = committed(batches), committed(shuffled)
    assert (one.covered, one.messages, one.holes) == (other.covered, other.messages, other.holes)
    assert one.messages == sum(b.messages for b in batches)
    assert one.holes == sum(len(b.covered) - b.messages for b in batches)


@given(disjoint_batches)
def test_batches_joined_say_what_they_say_one_after_the_other(batches: list[Batch]) -> None:
    ledger = Ledger()
    for b in batches:
        ledger = ledger.with_batch(b, {"t": "topic"})
    together = join_batches(batches)
    assert together.batch_id == batches[0].batch_id
    assert replace(ledger, batch_id=together.batch_id) == Ledger().with_batch(together, {"t": "topic"})


def test_batches_of_the_same_offset_are_not_joined() -> None:
    with pytest.raises(LedgerError, match="an offset stands in two of its 2 deliveries"):
        join_batches([batch("a", 0, 10), batch("b", 9, 20)])


@given(disjoint_batches)
def test_a_ledger_read_from_its_text_is_the_same_ledger(batches: list[Batch]) -> None:
    ledger = Ledger()
    for b in batches:
        ledger = ledger.with_batch(b, {"t": "topic"})
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_a_range_already_in_the_ledger_is_refused_by_name() -> None:
    ledger = Ledger().with_batch(batch("a", 0, 10), {"t": "topic"})
    with pytest.raises(LedgerError, match=r"t/0\[9,10\)"):
        ledger.with_batch(batch("b", 9, 20), {"t": "topic"})


def test_more_messages_than_offsets_are_refused() -> None:
    with pytest.raises(LedgerError, match="11 messages from 10 offsets"):
        Ledger().with_batch(batch("a", 0, 10, messages=11), {"t": "topic"})


def test_lost_offsets_are_kept_until_they_are_covered_after_all() -> None:
    lost = RangeSet.of([OffsetRange("t", 0, 0, 5)])
    ledger = Ledger().with_batch(Batch("a", RangeSet.of([OffsetRange("t", 0, 5, 9)]), 4, lost=lost), {"t": "topic"})
    assert ledger.lost == lost
    assert not ledger.with_batch(batch("b", 0, 5), {"t": "topic"}).lost


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version":1}', '{"version":1,"topics":{"t":3}}'])
def test_a_text_that_is_no_ledger_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(LedgerError, match=r"k2\.ledger is not a ledger"):
        Ledger.from_json(text)


def test_a_ledger_of_a_later_version_is_refused() -> None:
    with pytest.raises(LedgerError, match="version 2"):
        Ledger.from_json('{"version":2}')


def test_topics_are_kept_in_the_order_in_which_they_came() -> None:
    ledger = Ledger()
    for topic_id in ("z", "a", "m"):
        covered = RangeSet.of([OffsetRange(topic_id, 0, 0, 1)])
        ledger = ledger.with_batch(Batch(topic_id, covered, 1), {topic_id: "trades"})
    again = Ledger.from_json(ledger.to_json()).with_batch(
        Batch("b", RangeSet.of([OffsetRange("a", 0, 1, 2)]), 1), {"a": "trades"}
    )
    assert list(again.topic_names) == ["z", "a", "m"]
