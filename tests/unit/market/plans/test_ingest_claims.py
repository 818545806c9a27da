"""What a run was told of its topic against what is so, in a model where every offset's whole story is known."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.messages.log_comparison import ComparedOffsets
from k2_market.plans.failed_runs import ATTEMPTS_ALONE, ATTEMPTS_TO_KEEP, Cause, FailedRun, Handling
from k2_market.plans.ingest_claims import ClaimFacts, IngestClaims, Spans, WrongClaim, admitted

NONE = RangeSet()
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def of(*spans: tuple[int, int, int]) -> RangeSet:
    return RangeSet.of(OffsetRange("t", *each) for each in spans)


def topic(*logs: tuple[int, int] | tuple[int, int, int]) -> TopicState:
    """A topic whose partitions' logs go from the first number to the last; to the middle one they are stable."""
    return TopicState("trades", "t", tuple(PartitionState(n, log[0], log[1], log[-1]) for n, log in enumerate(logs)))


def ledger(covered: RangeSet, truncated: RangeSet = NONE) -> Ledger:
    made = Ledger().with_batch(Batch("a", covered, len(covered)), {"t": "trades"})
    return made.with_batch(Batch("b", NONE, 0, truncated=truncated), {}) if truncated else made


def refused(claims: IngestClaims, facts: ClaimFacts) -> str:
    with pytest.raises(WrongClaim) as wrong:
        admitted(claims, facts)
    return str(wrong.value)


class TestAClaimThatHolds:
    def test_is_admitted_as_it_is(self) -> None:
        claims = IngestClaims("t", of((0, 20, 30)), of((0, 0, 5)), of((1, 8, 12)))
        facts = ClaimFacts(topic((5, 30), (0, 8)), ledger(of((0, 5, 20), (1, 0, 12))))
        assert admitted(claims, facts) == claims

    def test_of_offsets_that_an_open_transaction_has_taken_by_now_is_admitted(self) -> None:
        """What was in the ledger was stable: a log whose stable end lies before it was cut."""
        claims = IngestClaims("t", truncated=of((0, 8, 12)))
        assert admitted(claims, ClaimFacts(topic((0, 8, 20)), ledger(of((0, 0, 12))))) == claims

    def test_is_admitted_where_the_log_has_grown_over_the_cut_with_something_else(self) -> None:
        claims = IngestClaims("t", truncated=of((0, 8, 12)))
        facts = ClaimFacts(topic((0, 20)), ledger(of((0, 0, 12))), ComparedOffsets(other=of((0, 8, 12))))
        assert admitted(claims, facts) == claims

    def test_is_narrowed_to_what_is_something_else_where_some_of_it_was_sent_again_as_it_was(self) -> None:
        claims = IngestClaims("t", truncated=of((0, 8, 14)))
        compared = ComparedOffsets(same=of((0, 8, 10)), other=of((0, 11, 12)), unknown=of((0, 10, 11)))
        facts = ClaimFacts(topic((0, 12)), ledger(of((0, 0, 14))), compared)
        assert admitted(claims, facts).truncated == of((0, 11, 14))


class TestAClaimThatDoesNotHold:
    def test_that_retention_removed_what_the_log_still_has(self) -> None:
        said = refused(IngestClaims("t", lost=of((1, 0, 1))), ClaimFacts(topic((0, 9), (0, 9)), Ledger()))
        assert "lost: partition 1 offsets [0, 1): its log begins at 0, so retention did not remove them" in said

    def test_that_retention_removed_more_than_it_did(self) -> None:
        said = refused(IngestClaims("t", lost=of((0, 0, 9))), ClaimFacts(topic((5, 9)), Ledger()))
        assert "lost: partition 0 offsets [5, 9): its log begins at 5" in said

    def test_that_retention_removed_what_was_never_there(self) -> None:
        said = refused(IngestClaims("t", lost=of((0, 100, 200))), ClaimFacts(topic((5, 9)), Ledger()))
        assert "lost: partition 0 offsets [100, 200)" in said

    def test_that_the_log_was_cut_where_it_has_what_was_ingested(self) -> None:
        facts = ClaimFacts(topic((0, 9)), ledger(of((0, 0, 9))), ComparedOffsets(same=of((0, 0, 1))))
        said = refused(IngestClaims("t", truncated=of((0, 0, 1))), facts)
        assert "truncated: partition 0 offsets [0, 1): its log reaches from 0 to 9 and has the same messages" in said

    def test_that_it_was_cut_where_it_was_and_where_it_was_not(self) -> None:
        facts = ClaimFacts(topic((0, 5)), ledger(of((0, 0, 9))), ComparedOffsets(same=of((0, 0, 5))))
        said = refused(IngestClaims("t", truncated=of((0, 0, 9))), facts)
        assert "partition 0 offsets [0, 5)" in said
        assert "[5, 9)" not in said

    def test_that_it_was_cut_where_it_can_not_be_told(self) -> None:
        facts = ClaimFacts(topic((0, 9)), ledger(of((0, 0, 9))), ComparedOffsets(unknown=of((0, 3, 4))))
        assert "[3, 4): its log reaches from 0 to 9, and whether" in refused(
            IngestClaims("t", truncated=of((0, 3, 4))), facts
        )

    def test_that_it_was_cut_where_retention_removed_what_was_ingested(self) -> None:
        said = refused(IngestClaims("t", truncated=of((0, 0, 1))), ClaimFacts(topic((5, 9)), ledger(of((0, 0, 9)))))
        assert "[0, 1): its log reaches from 5 to 9: retention removed them" in said

    def test_that_it_was_cut_where_nothing_was_ingested(self) -> None:
        said = refused(IngestClaims("t", truncated=of((0, 9, 20))), ClaimFacts(topic((0, 9)), ledger(of((0, 0, 9)))))
        assert "truncated: partition 0 offsets [9, 20): they are not in the ledger" in said

    def test_that_there_is_more_to_read_than_the_log_has(self) -> None:
        said = refused(IngestClaims("t", of((0, 0, 20))), ClaimFacts(topic((0, 9)), Ledger()))
        assert "ranges: partition 0 offsets [0, 20): its log ends at 9" in said

    @pytest.mark.parametrize("key", ["ranges", "lost", "truncated"])
    def test_that_there_is_a_partition_that_there_is_not(self, key: str) -> None:
        said = refused(IngestClaims("t", **{key: of((7, 0, 1))}), ClaimFacts(topic((0, 9), (0, 9)), Ledger()))
        assert f"{key}: partition 7 offsets [0, 1): the topic has partitions 0 to 1" in said

    def test_that_a_halted_topic_is_to_be_read(self) -> None:
        facts = ClaimFacts(topic((0, 20)), ledger(of((0, 0, 9)), truncated=of((0, 5, 9))))
        said = refused(IngestClaims("t", of((0, 9, 20))), facts)
        assert "halted: the log of trades ended before" in said
        assert "--unhalt" in said

    def test_names_all_that_is_wrong_at_once_and_the_topic(self) -> None:
        said = refused(
            IngestClaims("t", of((0, 0, 99)), of((0, 0, 1)), of((1, 0, 1))), ClaimFacts(topic((0, 9)), Ledger())
        )
        assert said.startswith("trades (t) is not as the run was told")
        assert all(key in said for key in ("ranges: ", "lost: ", "truncated: "))


class TestSettingMessagesAside:
    ONE = of((0, 7, 8))

    def facts(self, *failed: FailedRun) -> ClaimFacts:
        return ClaimFacts(topic((0, 20), (0, 20)), Ledger(), failed=failed)

    def failed(
        self, ranges: RangeSet, times: int, handling: Handling = Handling.DECODE, before: int = 0
    ) -> list[FailedRun]:
        attempts = range(before + 1, before + times + 1)
        return [FailedRun(ranges, each, NOW, Cause.UNKNOWN, handling) for each in attempts]

    @pytest.mark.parametrize("handling", [Handling.KEEP_BYTES, Handling.SKIP])
    def test_of_messages_that_no_run_failed_of_is_refused(self, handling: Handling) -> None:
        said = refused(IngestClaims("t", self.ONE, handling=handling), self.facts())
        assert f"handling '{handling}' of " in said
        assert "0 attempts at them are known to have failed, which call for 'decode'" in said

    def test_is_admitted_once_as_many_runs_failed_of_one_alone_and_not_one_before(self) -> None:
        keep = IngestClaims("t", self.ONE, handling=Handling.KEEP_BYTES)
        enough = self.failed(self.ONE, ATTEMPTS_ALONE)
        found = admitted(keep, self.facts(*enough))
        assert (found.handling, found.ranges, found.failed_attempts) == (Handling.KEEP_BYTES, self.ONE, ATTEMPTS_ALONE)
        assert "call for 'decode'" in refused(keep, self.facts(*enough[:-1]))

    def test_unread_is_admitted_only_where_not_even_the_bytes_could_be_kept(self) -> None:
        skip = IngestClaims("t", self.ONE, handling=Handling.SKIP)
        decoded = self.failed(self.ONE, ATTEMPTS_ALONE)
        kept = self.failed(self.ONE, ATTEMPTS_TO_KEEP, Handling.KEEP_BYTES, ATTEMPTS_ALONE)
        assert "which call for 'keep bytes'" in refused(skip, self.facts(*decoded, *kept[:-1]))
        assert admitted(skip, self.facts(*decoded, *kept)).handling is Handling.SKIP
        keep = IngestClaims("t", self.ONE, handling=Handling.KEEP_BYTES)
        assert admitted(keep, self.facts(*decoded, *kept)).handling is Handling.KEEP_BYTES

    def test_of_neighbours_beside_the_one_is_refused(self) -> None:
        enough = self.failed(self.ONE, ATTEMPTS_ALONE)
        for more in (of((0, 6, 8)), of((0, 7, 9)), of((0, 7, 8), (1, 0, 1))):
            refused(IngestClaims("t", more, handling=Handling.KEEP_BYTES), self.facts(*enough))

    def test_of_runs_that_failed_for_want_of_something_else_is_refused(self) -> None:
        outside = [FailedRun(self.ONE, each, NOW, Cause.OUTSIDE) for each in range(1, 100)]
        refused(IngestClaims("t", self.ONE, handling=Handling.KEEP_BYTES), self.facts(*outside))

    @pytest.mark.parametrize(
        ("topic_id", "ranges", "truncated", "handling", "said"),
        [
            ("t", {"0": [[0, 1]]}, {}, "drop", "handling: found 'drop'; expected 'decode', 'keep bytes', 'skip'"),
            ("t", {}, {}, "skip", "handling 'skip': found no ranges"),
            ("", {}, {}, "keep bytes", "handling 'keep bytes': found no ranges"),
            ("t", {"0": [[0, 1]]}, {"0": [[1, 2]]}, "skip", "handling 'skip': found truncated offsets beside them"),
        ],
    )
    def test_that_names_no_messages_alone_is_refused_as_it_is_read(
        self, topic_id: str, ranges: Spans, truncated: Spans, handling: str, said: str
    ) -> None:
        with pytest.raises(WrongClaim, match=re.escape(said)):
            IngestClaims.parse(topic_id, ranges, {}, truncated, handling)


class TestAConfiguration:
    def test_is_taken_as_it_is_written(self) -> None:
        claims = IngestClaims.parse("t", {"0": [[0, 5], [7, 9]]}, {"1": [[0, 1]]}, {})
        assert claims == IngestClaims("t", of((0, 0, 5), (0, 7, 9)), of((1, 0, 1)), NONE)

    def test_may_be_empty(self) -> None:
        assert IngestClaims.parse("", {}, {}, {"3": []}) == IngestClaims("")

    @pytest.mark.parametrize("key", ["ranges", "lost", "truncated"])
    @pytest.mark.parametrize(
        ("partition", "pair"),
        [
            ("0", [5, 5]),
            ("0", [5, 3]),
            ("0", [-1, 3]),
            ("0", [1]),
            ("0", []),
            ("0", [1, 2, 3]),
            ("-1", [0, 1]),
            ("zero", [0, 1]),
            ("", [0, 1]),
            ("0", [0, 2**63]),
        ],
    )
    def test_that_names_no_offsets_is_refused_by_its_key(self, key: str, partition: str, pair: list[int]) -> None:
        said: dict[str, dict[str, list[list[int]]]] = {"ranges": {}, "lost": {}, "truncated": {}}
        said[key] = {partition: [pair]}
        with pytest.raises(WrongClaim, match=rf"{key}: found partition '{partition}', offsets \[.*expected the number"):
            IngestClaims.parse("t", **said)

    def test_of_offsets_without_their_topics_id_is_refused(self) -> None:
        with pytest.raises(WrongClaim, match="topic_id is empty, and ranges, lost name offsets"):
            IngestClaims.parse("", {"0": [[0, 5]]}, {"0": [[0, 5]]}, {})


@dataclass(frozen=True)
class Story:
    """A partition's log, all of which is known: what was written at each offset, in order, and what of it is left.

    ``ingested`` holds which of the writings at an offset the ledger has.
    """

    low: int
    stable: int
    high: int
    content: dict[int, str]
    ingested: dict[int, str]

    @property
    def state(self) -> TopicState:
        return topic((self.low, self.stable, self.high))

    @property
    def ledger(self) -> Ledger:
        return ledger(of(*((0, each, each + 1) for each in self.ingested)))

    def compared(self, reached: RangeSet) -> ComparedOffsets:
        offsets = [each for r in reached for each in range(r.start, r.end)]
        same = [each for each in offsets if self.content[each] == self.ingested[each]]
        other = [each for each in offsets if self.content[each] != self.ingested[each]]
        return ComparedOffsets(of(*((0, n, n + 1) for n in same)), of(*((0, n, n + 1) for n in other)))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """A log that was written, ingested in part, cut or not, and written again, in part with the same."""
    first = draw(st.integers(0, 12))
    content = {n: f"first {n}" for n in range(first)}
    ingested = {n: content[n] for n in draw(st.sets(st.integers(0, max(0, first - 1)), max_size=first)) if n in content}
    if draw(st.booleans()):
        cut = draw(st.integers(0, first))
        content = {n: text for n, text in content.items() if n < cut}
        for n in range(cut, cut + draw(st.integers(0, 12))):
            content[n] = draw(st.sampled_from([f"first {n}", f"second {n}"]))
    high = len(content)
    low = draw(st.integers(0, high))
    return Story(low, draw(st.integers(low, high)) if not ingested else high, high, content, ingested)


spans = st.builds(lambda start, length: (0, start, start + length), st.integers(0, 20), st.integers(1, 8))
some = st.lists(spans, max_size=3).map(lambda found: of(*found))


@given(story=stories(), claimed=st.builds(IngestClaims, st.just("t"), some, some, some))
def test_whatever_is_claimed_nothing_is_recorded_that_is_not_so(story: Story, claimed: IngestClaims) -> None:
    facts = ClaimFacts(story.state, story.ledger, story.compared(claimed.reached(story.state, story.ledger)))
    try:
        found = admitted(claimed, facts)
    except WrongClaim:
        return
    assert found.lost == claimed.lost
    assert all(each.end <= story.low for each in found.lost)
    assert all(each.end <= story.high for each in found.ranges)
    for each in found.truncated:
        for offset in range(each.start, each.end):
            assert offset in story.ingested
            assert story.content.get(offset) != story.ingested[offset]


@given(written=st.integers(1, 12), left=st.integers(0, 11), low=st.integers(0, 11))
def test_what_the_sensor_sees_cut_off_is_never_refused(written: int, left: int, low: int) -> None:
    high = min(left, written - 1)
    ingested = {n: f"first {n}" for n in range(written)}
    story = Story(min(low, high), high, high, {n: ingested[n] for n in range(high)}, ingested)
    seen = story.state.unreached(story.ledger.covered)
    assert seen
    claims = IngestClaims("t", lost=story.state.removed - story.ledger.covered, truncated=seen)
    assert admitted(claims, ClaimFacts(story.state, story.ledger)) == claims
