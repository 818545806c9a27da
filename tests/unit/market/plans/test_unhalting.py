"""Whether a halted topic may be read on, from facts."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.messages.log_comparison import ComparedOffsets
from k2_market.plans.unhalting import InLog, Unhalting, to_be_compared, unhalting

NONE = RangeSet()


def of(*spans: tuple[int, int, int], topic: str = "t") -> RangeSet:
    return RangeSet.of(OffsetRange(topic, *each) for each in spans)


def topic(*logs: tuple[int, int]) -> TopicState:
    return TopicState("trades", "t", tuple(PartitionState(n, low, end, end) for n, (low, end) in enumerate(logs)))


def ledger(covered: RangeSet, truncated: RangeSet = NONE, lost: RangeSet = NONE) -> Ledger:
    return Ledger(covered=covered, truncated=truncated, lost=lost, topic_names={"t": "trades"}, batch_id="b")


def told(found: Unhalting) -> dict[InLog, RangeSet]:
    return {each.in_log: each.offsets for each in found.recorded}


def test_a_log_that_has_it_all_again_is_read_on() -> None:
    cut = of((0, 5, 9))
    found = unhalting(topic((0, 9)), ledger(of((0, 0, 9)), cut), ComparedOffsets(same=cut))
    assert (found.is_halted, found.may_go_on, found.truncated, found.against) == (True, True, cut, ())


def test_one_offset_that_is_not_what_was_ingested_keeps_all_of_it_halted() -> None:
    compared = ComparedOffsets(same=of((0, 5, 8)), other=of((0, 8, 9)))
    found = unhalting(topic((0, 9)), ledger(of((0, 0, 9)), of((0, 5, 9))), compared)
    assert (found.may_go_on, found.truncated) == (False, NONE)
    assert [each.in_log for each in found.against] == [InLog.OTHER]


def test_each_offset_is_told_by_what_the_log_has_there() -> None:
    state, cut = topic((3, 7), (0, 0)), of((0, 1, 9), (1, 0, 2))
    compared = ComparedOffsets(same=of((0, 3, 5)), other=of((0, 5, 6)), unknown=of((0, 6, 7)))
    found = unhalting(state, ledger(cut, cut), compared)
    assert told(found) == {
        InLog.REMOVED: of((0, 1, 3)),
        InLog.SAME: of((0, 3, 5)),
        InLog.OTHER: of((0, 5, 6)),
        InLog.UNKNOWN: of((0, 6, 7)),
        InLog.BEYOND: of((0, 7, 9), (1, 0, 2)),
    }


def test_what_the_log_does_not_reach_counts_though_nobody_recorded_it_yet() -> None:
    found = unhalting(topic((0, 4)), ledger(of((0, 0, 9))), ComparedOffsets())
    assert told(found) == {InLog.BEYOND: of((0, 4, 9))}
    assert not found.may_go_on


def test_lost_is_what_retention_removed_and_nothing_else() -> None:
    lost = of((0, 0, 3), (0, 3, 6), (0, 20, 30), (7, 0, 1))
    found = unhalting(topic((3, 9)), ledger(of((0, 6, 9)), lost=lost), ComparedOffsets())
    assert found.lost == of((0, 3, 6), (0, 20, 30), (7, 0, 1))
    assert not found.is_halted


def test_topics_that_are_gone_are_left_as_they_are_recorded() -> None:
    of_another = of((0, 0, 5), topic="earlier")
    found = unhalting(topic((0, 9)), ledger(of_another, of_another, of((0, 5, 9), topic="earlier")), ComparedOffsets())
    assert found.recorded == ()


def test_a_ledger_that_took_something_back_keeps_all_else() -> None:
    before = Ledger().with_batch(Batch("a", of((0, 0, 9)), 8, 1, 2), {"t": "trades"})
    halted = before.with_batch(Batch("b", NONE, 0, lost=of((1, 0, 5)), truncated=of((0, 2, 4))), {})
    assert halted.taken_back("c", of((0, 2, 4)), of((1, 0, 5))) == replace(before, batch_id="c")
    assert halted.taken_back("c", of((0, 2, 3)), NONE).truncated == of((0, 3, 4))


spans = st.builds(lambda start, length: (0, start, start + length), st.integers(0, 20), st.integers(1, 6))
some = st.lists(spans, max_size=4).map(lambda found: of(*found))


@given(covered=some, cut=some, lost=some, low=st.integers(0, 12), length=st.integers(0, 12), same=some)
def test_nothing_is_taken_back_of_which_the_log_does_not_have_what_was_ingested(
    covered: RangeSet, cut: RangeSet, lost: RangeSet, low: int, length: int, same: RangeSet
) -> None:
    state = topic((low, low + length))
    made = ledger(covered, cut & covered, lost - covered)
    asked = to_be_compared(state, made)
    found = unhalting(state, made, ComparedOffsets(asked & same, asked - same))
    assert found.truncated.issubset(asked & same)
    assert not found.truncated or found.truncated == made.truncated == asked & same
    assert found.lost == made.lost - state.removed
    told_of = RangeSet.of(each for one in found.recorded if one.truncated for each in one.offsets)
    assert told_of == made.truncated | state.unreached(covered)
