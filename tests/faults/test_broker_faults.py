"""A topic loses, changes or holds back what it had: what it still has is ingested once, what is gone is named."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from catching_up import carried_out, ingest, planned, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from own_feeds import OwnFeed, own_feed
from topic_changes import TransactionalProducer, add_partitions, delete_records, recreate
from trade_batches import split

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_platform.catch_up import local_instance
from k2_resources.kafka.topic_reader import TopicReader


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url, partitions=4)


@pytest.fixture
def before_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Lets something happen once, after a run has looked at its topic and before it reads."""

    def arrange(act: Callable[[], None]) -> None:
        waiting, read = [act], TopicReader.read

        def reading(self: TopicReader, ranges: RangeSet) -> object:
            while waiting:
                waiting.pop()()
            return read(self, ranges)

        monkeypatch.setattr(TopicReader, "read", reading)

    return arrange


def between_plan_and_run(own: OwnFeed, act: Callable[[], None]) -> list[str]:
    """What goes wrong in a run after whose plan something happened."""
    with local_instance(own.settings) as instance:
        request = planned(own, instance)
        assert isinstance(request, dg.RunRequest), request
        act()
        return carried_out(own, request, instance)


def ends(own: OwnFeed) -> dict[int, int]:
    return {each.partition: each.high for each in own.topic().partitions}


def ranges(own: OwnFeed, starts: dict[int, int], ends: dict[int, int]) -> RangeSet:
    topic_id = own.topic().topic_id
    spans = ((partition, start, ends[partition]) for partition, start in starts.items() if ends[partition] > start)
    return RangeSet.of(OffsetRange(topic_id, *span) for span in spans)


def test_aborted_transactions_and_their_marks_are_no_gap_also_at_the_end_of_the_topic(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = TransactionalProducer(own.settings.bootstrap_servers, own.feed.topics.trades)
    for number, part in enumerate(split(own.trades(400), 100, 100, 100)):
        producer.begin(part)
        (producer.abort if number % 2 else producer.commit)()
        if number == 2:
            reaches_no_lag(own)
    reaches_no_lag(own)
    assert own.ledger().messages == 200
    assert own.ledger().covered == own.topic().readable
    assert ingest(own).runs == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("B5")


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_nothing_behind_an_open_transaction_is_read_or_skipped(own: OwnFeed, tally: FaultTally, end: str) -> None:
    outside = own.producer()
    inside = TransactionalProducer(own.settings.bootstrap_servers, own.feed.topics.trades)
    before, within, behind = split(own.trades(300), 100, 100)
    outside.send(before)
    outside.flush()
    inside.begin(within)
    outside.send(behind)
    outside.flush()
    reaches_no_lag(own)
    offsets = own.raw().all_offsets().to_pylist()
    assert {tuple(row.values()) for row in offsets} == {
        (each.topic_id, each.partition, each.offset) for each in outside.acked[: len(before)]
    }
    (inside.commit if end == "commit" else inside.abort)()
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, [*outside.acked, *inside.acked], tally)
    tally.injected("B6")


def test_what_retention_removed_before_it_was_read_is_in_the_ledger_as_an_exact_range(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = own.producer()
    first, second = split(own.trades(600), 300)
    producer.send(first)
    producer.flush()
    reaches_no_lag(own)
    read = ends(own)
    producer.send(second)
    producer.flush()
    removed = {partition: end + (ends(own)[partition] - end) // 2 for partition, end in read.items()}
    delete_records(own, removed)
    reaches_no_lag(own)
    gaps = ranges(own, read, removed)
    assert len(gaps) > 100
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, gaps)
    tally.injected("B7")


def test_a_topic_of_which_all_that_was_unread_is_gone_is_recorded_without_waiting_for_more(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = own.producer()
    producer.send(own.trades(300))
    producer.flush()
    delete_records(own, ends(own))
    reaches_no_lag(own)
    gaps = ranges(own, dict.fromkeys(ends(own), 0), ends(own))
    assert ingest(own).runs == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, gaps)
    tally.injected("B7")


def test_records_removed_between_plan_and_read_fail_the_run_and_are_recorded_by_the_next(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = own.producer()
    producer.send(own.trades(300))
    producer.flush()
    removed = {partition: end // 2 for partition, end in ends(own).items()}
    (error,) = between_plan_and_run(own, lambda: delete_records(own, removed))
    assert "The next plan records what retention removed" in error
    reaches_no_lag(own)
    gaps = ranges(own, dict.fromkeys(removed, 0), removed)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, gaps)
    tally.injected("B7")


@pytest.mark.parametrize(("row", "again"), [("B8", 100), ("B9", 500)])
def test_a_topic_made_anew_goes_on_under_its_new_id_and_the_rows_of_both_stay(
    own: OwnFeed, tally: FaultTally, row: str, again: int
) -> None:
    before, after = split(own.trades(300 + again), 300)
    first = own.producer()
    first.send(before)
    first.flush()
    reaches_no_lag(own)
    recreate(own)
    second = own.producer()
    second.send(after)
    second.flush()
    reaches_no_lag(own)
    assert len(own.ledger().topic_names) == 2
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, [*first.acked, *second.acked], tally)
    tally.injected(row)


@pytest.mark.slow
@pytest.mark.parametrize("again", [100, 500])
def test_a_topic_made_anew_between_plan_and_run_is_not_read_for_the_one_that_was_planned(
    own: OwnFeed, tally: FaultTally, again: int
) -> None:
    before, after = split(own.trades(300 + again), 300)
    first = own.producer()
    first.send(before)
    first.flush()

    def make_anew() -> None:
        recreate(own)
        second.look_at_topic()
        second.send(after)
        second.flush()

    second = own.producer()
    (error,) = between_plan_and_run(own, make_anew)
    assert "deleted or made anew" in error
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, second.acked, tally)
    tally.injected("B8 or B9 between plan and run")


@pytest.mark.parametrize("again", [pytest.param(100, marks=pytest.mark.slow), 500])
def test_a_topic_made_anew_just_before_it_is_read_is_not_read_for_the_one_that_was_planned(
    own: OwnFeed, tally: FaultTally, again: int, before_reading: Callable[[Callable[[], None]], None]
) -> None:
    before, after = split(own.trades(300 + again), 300)
    first = own.producer()
    first.send(before)
    first.flush()
    second = own.producer()

    def make_anew() -> None:
        recreate(own)
        second.look_at_topic()
        second.send(after)
        second.flush()

    before_reading(make_anew)
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, second.acked, tally)
    tally.injected("B8 or B9 between look and read")


@pytest.mark.slow
def test_partitions_added_during_a_run_are_read_from_their_first_offset(own: OwnFeed, tally: FaultTally) -> None:
    first, second = split(own.trades(2_000, symbols=100), 1_000)
    producer = own.producer()
    producer.send(first)
    producer.flush()
    late = own.producer(**{"topic.metadata.refresh.interval.ms": 500})

    def grow() -> None:
        add_partitions(own, 8)
        late.look_at_topic()
        late.send(second)
        late.flush()

    assert between_plan_and_run(own, grow) == []
    reaches_no_lag(own)
    acked = [*producer.acked, *late.acked]
    assert {each.partition for each in acked} == set(range(8))
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, acked, tally)
    tally.injected("B10")
