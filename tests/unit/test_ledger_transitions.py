"""The ledger's transitions against the plainest model there is, Python sets of offsets, and the plans that follow."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from k2_market.errors import LedgerError
from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans.ingest_plan import (
    FailedRun,
    IngestFacts,
    IngestPlan,
    Waiting,
    pending_or_waiting,
    plan,
    recording,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOPIC = "tV3xs1QvSzW5zVb7NbcAhQ"
NAMES = {TOPIC: "trades", "older/topic[0,1)": "trades"}
"""Topic UUIDs with the characters that a range's text has too."""

Offsets = frozenset[tuple[str, int, int]]

patient = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ranges = st.builds(
    lambda topic, partition, start, length: OffsetRange(topic, partition, start, start + length),
    st.sampled_from(sorted(NAMES)),
    st.integers(0, 2),
    st.integers(0, 30),
    st.integers(1, 12),
)
range_sets = st.lists(ranges, max_size=5).map(RangeSet.of)
range_sets_or_none = st.just(RangeSet()) | range_sets


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """A batch by itself: as many messages as offsets or fewer, what was lost and what was cut off beside."""
    covered = draw(range_sets_or_none)
    messages = draw(st.integers(0, len(covered)))
    return Batch(
        batch_id=draw(st.uuids().map(str)),
        covered=covered,
        messages=messages,
        dead_letters=draw(st.integers(0, messages)),
        late_rows=draw(st.integers(0, messages)),
        lost=draw(range_sets_or_none),
        truncated=draw(range_sets),
        set_aside=draw(range_sets_or_none),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Batch]:
    """Batches as a raw table lets them in: each covers what none before it has, and tells cuts of what is covered."""
    let_in: list[Batch] = []
    seen = RangeSet()
    for batch in draw(st.lists(batches(), max_size=5)):
        covered = batch.covered - seen
        seen = seen | covered
        messages = min(batch.messages, len(covered))
        let_in.append(
            replace(
                batch,
                covered=covered,
                messages=messages,
                dead_letters=min(batch.dead_letters, messages),
                late_rows=min(batch.late_rows, messages),
                truncated=batch.truncated & seen,
            )
        )
    return let_in


def after(history: list[Batch], ledger: Ledger | None = None) -> Ledger:
    ledger = ledger or Ledger()
    for batch in history:
        ledger = ledger.with_batch(batch, NAMES)
    return ledger


ledgers = histories().map(after)


def offsets(*sets: RangeSet) -> Offsets:
    return frozenset(
        (r.topic_id, r.partition, offset) for each in sets for r in each for offset in range(r.start, r.end)
    )


@patient
@given(ranges)
def test_a_range_read_from_its_text_is_the_same_range(each: OffsetRange) -> None:
    assert OffsetRange.parse(str(each)) == each


@patient
@given(st.text() | st.from_regex(r"[a-z]*/\d{1,3}\[\d{1,3},\d{1,3}\)?", fullmatch=True))
def test_a_text_is_a_range_or_is_refused(text: str) -> None:
    try:
        parsed = OffsetRange.parse(text)
    except ValueError:
        return
    assert OffsetRange.parse(str(parsed)) == parsed
    assert parsed.start < parsed.end


@patient
@given(histories())
def test_a_ledger_is_the_sum_of_its_batches(history: list[Batch]) -> None:
    ledger = after(history)
    assert offsets(ledger.covered) == offsets(*(batch.covered for batch in history))
    assert offsets(ledger.lost) == offsets(*(batch.lost for batch in history)) - offsets(ledger.settled)
    # What was set aside unread and came in after all is not set aside any more; a dead letter that was set aside is.
    aside = (batch.set_aside & batch.covered | batch.set_aside - ledger.covered for batch in history)
    assert offsets(ledger.set_aside) == offsets(*aside)
    assert offsets(ledger.settled) == offsets(ledger.covered, ledger.set_aside)
    assert offsets(ledger.unread) == offsets(ledger.set_aside) - offsets(ledger.covered)
    assert offsets(ledger.truncated) == offsets(*(batch.truncated for batch in history))
    assert ledger.messages == sum(batch.messages for batch in history)
    assert ledger.holes == len(ledger.covered) - ledger.messages >= 0
    assert ledger.dead_letters == sum(batch.dead_letters for batch in history)
    assert ledger.late_rows == sum(batch.late_rows for batch in history)
    assert ledger.batch_id == (history[-1].batch_id if history else "")


@patient
@given(histories(), st.randoms())
def test_in_whatever_order_batches_come_only_the_last_ones_name_tells(history: list[Batch], random: Random) -> None:
    # A log is cut after it was read, so what is said to be cut off comes last in any order.
    cuts = Batch("cuts", RangeSet(), 0, truncated=RangeSet.of(each for batch in history for each in batch.truncated))
    history = [replace(batch, truncated=RangeSet()) for batch in history]
    shuffled = [*random.sample(history, len(history)), cuts]
    history.append(cuts)
    one, other = after(history), after(shuffled)
    assert replace(one, batch_id="") == replace(other, batch_id="")


@patient
@given(ledgers, batches())
def test_a_batch_that_overlaps_is_refused_and_its_new_part_is_not(ledger: Ledger, batch: Batch) -> None:
    doubled = batch.covered & ledger.covered
    if doubled:
        with pytest.raises(LedgerError, match="already in the ledger"):
            ledger.with_batch(batch, NAMES)
    covered = batch.covered - ledger.covered
    left = replace(batch, covered=covered, messages=min(batch.messages, len(covered)))
    assert offsets(ledger.with_batch(left, NAMES).covered) == offsets(ledger.covered, batch.covered)


@patient
@given(ledgers, batches())
def test_a_batch_has_news_exactly_when_it_would_change_what_the_ledger_says(ledger: Ledger, batch: Batch) -> None:
    news = replace(batch, covered=batch.covered - ledger.covered, messages=0, dead_letters=0, late_rows=0)
    changed = ledger.with_batch(news, NAMES)
    said = [(each.covered, each.lost, each.truncated, each.set_aside) for each in (ledger, changed)]
    assert ledger.has_news(batch) == (said[0] != said[1])


@patient
@given(histories())
def test_what_was_committed_once_is_no_news_a_second_time(history: list[Batch]) -> None:
    ledger = after(history)
    for batch in history:
        assert not ledger.has_news(batch)


@patient
@given(ledgers, batches())
def test_a_ledger_never_takes_back_what_it_covers_or_knows_to_be_cut_off(ledger: Ledger, batch: Batch) -> None:
    covered = batch.covered - ledger.covered
    later = ledger.with_batch(replace(batch, covered=covered, messages=min(batch.messages, len(covered))), NAMES)
    assert ledger.covered.issubset(later.covered)
    assert ledger.truncated.issubset(later.truncated)
    assert ledger.lost.issubset(later.lost | later.settled)
    assert later.lost.isdisjoint(later.settled)
    assert ledger.set_aside.issubset(later.set_aside | covered)
    assert later.truncated.issubset(later.covered)


@patient
@given(ledgers, st.integers(-1, 100), st.uuids().map(str))
def test_a_repair_changes_the_count_of_dead_letters_and_nothing_else(ledger: Ledger, dead: int, name: str) -> None:
    if 0 <= dead <= ledger.messages:
        assert ledger.repaired(name, dead) == replace(ledger, dead_letters=dead, batch_id=name)
    else:
        with pytest.raises(LedgerError, match="dead letters among"):
            ledger.repaired(name, dead)


@patient
@given(ledgers, range_sets)
def test_a_repair_that_decodes_what_was_set_aside_takes_it_out_of_what_is_set_aside(
    ledger: Ledger, decoded: RangeSet
) -> None:
    repaired = ledger.repaired("repair", 0, decoded)
    assert repaired == replace(ledger, dead_letters=0, batch_id="repair", set_aside=ledger.set_aside - decoded)


def test_a_ledger_that_was_written_before_anything_could_be_set_aside_says_that_nothing_was() -> None:
    text = Ledger(topic_names={TOPIC: "trades"}).to_json().replace(',"set_aside":{}', "")
    assert "set_aside" not in text
    assert Ledger.from_json(text) == Ledger(topic_names={TOPIC: "trades"})


@patient
@given(ledgers)
def test_a_ledgers_text_says_all_of_it_and_equal_ledgers_have_equal_texts(ledger: Ledger) -> None:
    text = ledger.to_json()
    assert Ledger.from_json(text) == ledger
    assert Ledger.from_json(text).to_json() == text


@st.composite
def facts(draw: st.DrawFn) -> IngestFacts:
    """A topic, a ledger, runs in flight and failed ones, whatever they have to do with each other."""
    logs = draw(st.lists(st.tuples(*[st.integers(0, 30)] * 3).map(sorted), min_size=1, max_size=3))
    partitions = tuple(PartitionState(n, low, stable, high) for n, (low, stable, high) in enumerate(logs))
    failed = st.builds(FailedRun, range_sets, st.integers(1, 8), st.integers(0, 3600).map(ago))
    return IngestFacts(
        topic=TopicState("trades", TOPIC, partitions),
        ledger=draw(ledgers),
        in_flight=tuple(draw(st.lists(range_sets, max_size=3))),
        failed=tuple(draw(st.lists(failed, max_size=3))),
        now=NOW,
    )


def ago(seconds: int) -> datetime:
    return NOW - timedelta(seconds=seconds)


@patient
@given(facts())
def test_pending_is_what_can_be_read_and_nobody_has(of: IngestFacts) -> None:
    assert offsets(of.pending) == offsets(of.topic.readable) - offsets(of.ledger.settled, *of.in_flight)


@patient
@given(facts())
def test_a_plan_takes_only_what_is_pending_and_never_nothing(of: IngestFacts) -> None:
    ready = pending_or_waiting(of)
    if isinstance(ready, Waiting):
        return
    made = plan(of, ready)
    assert made.ranges
    assert made.ranges.issubset(of.pending)
    assert made.attempt == 1 + max((r.attempt for r in of.failed if not r.ranges.isdisjoint(made.ranges)), default=0)
    assert made.lost.isdisjoint(of.ledger.settled | of.topic.readable)


@patient
@given(facts())
def test_a_run_that_only_records_reads_nothing_brings_news_and_is_planned_once(of: IngestFacts) -> None:
    made = recording(of)
    if made is None:
        assert of.in_flight or not of.unrecorded or (of.pending and not of.truncated)
        return
    assert not made.ranges
    batch = Batch("recorded", RangeSet(), 0, lost=made.lost, truncated=made.truncated)
    assert of.ledger.has_news(batch)
    told = replace(of, ledger=of.ledger.with_batch(batch, {TOPIC: "trades"}))
    assert recording(told) is None
    assert not told.unrecorded


@patient
@given(facts(), facts())
def test_plans_of_other_ranges_or_attempts_have_other_keys(one: IngestFacts, other: IngestFacts) -> None:
    plans = [IngestPlan(each.pending, 1, each.lost, each.truncated) for each in (one, other)]
    assume(all(each.ranges for each in plans))
    assert (plans[0].run_key == plans[1].run_key) == (plans[0].ranges == plans[1].ranges)
    assert replace(plans[0], attempt=2).run_key != plans[0].run_key


@dataclass
class Log:
    """A partition's log in the model: which offsets hold a message, and which of them retention has removed."""

    messages: list[bool] = field(default_factory=list)
    low: int = 0


class IngestionOverTime(RuleBasedStateMachine):
    """A topic that grows, loses and is made anew, and runs that carry out plans in any order, twice or never."""

    @initialize(partitions=st.integers(1, 3))
    def start(self, partitions: int) -> None:
        self.ledger, self.topics = Ledger(), 0
        self.requested: list[IngestPlan] = []
        self.removed: set[tuple[str, int, int]] = set()
        self.make_anew(partitions)

    @rule(partitions=st.integers(1, 3))
    def make_anew(self, partitions: int) -> None:
        self.topics += 1
        self.topic_id = f"topic-{self.topics}"
        self.logs = [Log() for _ in range(partitions)]

    @rule(partition=st.integers(0, 2), written=st.lists(st.booleans(), min_size=1, max_size=6))
    def write(self, partition: int, written: list[bool]) -> None:
        self.logs[partition % len(self.logs)].messages += written

    @rule(partition=st.integers(0, 2), count=st.integers(1, 4))
    def remove(self, partition: int, count: int) -> None:
        log = self.logs[partition % len(self.logs)]
        low = min(log.low + count, len(log.messages))
        self.removed |= {(self.topic_id, partition % len(self.logs), offset) for offset in range(log.low, low)}
        log.low = low

    @rule()
    def look(self) -> None:
        planned = recording(self.facts)
        if planned is None:
            ready = pending_or_waiting(self.facts)
            planned = None if isinstance(ready, Waiting) else plan(self.facts, ready)
        if planned is not None:
            self.requested.append(planned)

    @rule(data=st.data())
    def carry_out(self, data: st.DataObject) -> None:
        """A run commits that was requested at any time before, be it for the first time or not."""
        if self.requested:
            self.commit(data.draw(st.sampled_from(self.requested)))

    def commit(self, planned: IngestPlan) -> None:
        """What a run does: it reads what it was given only if all of that is there, and commits what is new."""
        wanted = planned.ranges - self.ledger.covered
        covered = wanted if wanted.issubset(self.facts.topic.readable) else RangeSet()
        messages = sum(self.logs[each.partition].messages[n] for each in covered for n in range(each.start, each.end))
        batch = Batch("b", covered, messages, lost=planned.lost, truncated=planned.truncated)
        if self.ledger.has_news(batch):
            topic_ids = {topic_id for topic_id, _ in (*covered.spans, *planned.lost.spans)}
            self.ledger = self.ledger.with_batch(batch, dict.fromkeys(topic_ids, "trades"))

    @property
    def facts(self) -> IngestFacts:
        bounds = ((n, log.low, len(log.messages)) for n, log in enumerate(self.logs))
        states = tuple(PartitionState(n, low, high, high) for n, low, high in bounds)
        return IngestFacts(TopicState("trades", self.topic_id, states), self.ledger, (), (), NOW)

    @invariant()
    def nothing_is_lost_that_was_not_removed(self) -> None:
        assert offsets(self.ledger.lost) <= self.removed
        assert self.ledger.lost.isdisjoint(self.ledger.covered)

    @invariant()
    def the_counts_add_up(self) -> None:
        assert 0 <= self.ledger.holes == len(self.ledger.covered) - self.ledger.messages

    def teardown(self) -> None:
        """Whatever has happened: after two looks all that the topic holds or held is in the ledger."""
        for _ in range(2):
            self.look()
            if self.requested:
                self.commit(self.requested[-1])
        assert offsets(self.facts.topic.readable, self.facts.topic.removed) <= offsets(
            self.ledger.covered, self.ledger.lost
        )
        assert isinstance(pending_or_waiting(self.facts), Waiting)
        assert recording(self.facts) is None


TestIngestionOverTime = IngestionOverTime.TestCase
TestIngestionOverTime.settings = patient
