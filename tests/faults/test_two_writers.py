"""Two processes write the same range: it is committed once, and the one that comes second ends well."""

from pathlib import Path

import dagster as dg
import pytest
from catching_up import carried_out, ingest, planned, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from ingest_processes import IngestProcess, carrying_out, catching_up, log_lines
from own_feeds import OwnFeed, own_feed
from recorded_producer import RecordedProducer
from trade_batches import DAY, split

from k2_platform.catch_up import local_instance
from k2_resources.iceberg.catalog import open_catalog

LEFT_OUT = "offsets already in the ledger, left out"
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE

LOOKS_ONCE = """
from k2_resources.raw import table as raw_table

looked, ledger_of = {}, raw_table.ledger_of
raw_table.ledger_of = lambda table: looked.setdefault(table.name(), ledger_of(table))
"""
"""The fault that a process looks at the ledger once, and not at every attempt to commit."""


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url)


@pytest.fixture
def producer(own: OwnFeed) -> RecordedProducer:
    """Has sent messages that are ingested, and more that are not."""
    producer = own.producer()
    before, pending = split(own.trades(600), 100)
    producer.send(before)
    producer.flush()
    reaches_no_lag(own)
    producer.send(pending)
    producer.flush()
    return producer


@pytest.fixture
def request_for_both(own: OwnFeed, producer: RecordedProducer) -> dg.RunRequest:
    """The run that K2 would start for what is pending."""
    with local_instance(own.settings) as instance:
        request = planned(own, instance)
    assert isinstance(request, dg.RunRequest), request
    return request


def elsewhere(own: OwnFeed, home: Path) -> OwnFeed:
    """The same tables from another home, where nothing is known of the first one's runs."""
    tables = {"catalog_uri": own.settings.iceberg_catalog_uri, "warehouse": own.settings.iceberg_warehouse}
    return OwnFeed(own.feed, own.settings.model_copy(update={"home": home, **tables}), own.schema_id)


def overtaken(own: OwnFeed, request: dg.RunRequest, zombie: IngestProcess) -> None:
    """Carry out here what a process was about to commit when it was stopped; then let that one go on to its end."""
    zombie.wait_until_stopped()
    with local_instance(own.settings) as instance:
        assert carried_out(own, request, instance) == []
    zombie.go_on()
    zombie.ends()


def test_a_range_forced_on_two_processes_is_committed_once_and_the_loser_says_so_and_ends_well(
    own: OwnFeed, producer: RecordedProducer, request_for_both: dg.RunRequest, tally: FaultTally
) -> None:
    succeeded = len(own.runs(SUCCESS))
    with (
        carrying_out(own, request_for_both, K2_PAUSE_AT="before_cas") as one,
        carrying_out(own, request_for_both, K2_PAUSE_AT="before_cas") as other,
    ):
        for each in (one, other):
            each.wait_until_stopped()
        for each in (one, other):
            each.go_on()
        assert [each.ends()[0] for each in (one, other)] == [0, 0]
    (left_out,) = log_lines(own, LEFT_OUT)
    assert left_out["ranges"].count("OffsetRange(") == len(own.topic().partitions)
    assert (len(own.runs(SUCCESS)) - succeeded, own.runs(FAILURE)) == (2, [])
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("C5")


def test_a_process_that_wakes_up_after_another_did_its_work_doubles_nothing_and_ends_well(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally, tmp_path: Path
) -> None:
    with catching_up(own, K2_PAUSE_AT="before_cas") as zombie:
        zombie.wait_until_stopped()
        assert ingest(elsewhere(own, tmp_path / "other")).runs == 1
        zombie.go_on()
        code, said = zombie.ends()
    assert code == 0, said
    assert len(log_lines(own, LEFT_OUT)) == 1
    assert own.runs(FAILURE) == []
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K7")


def test_with_pyicebergs_own_retry_on_the_checker_finds_doubled_rows(
    own: OwnFeed, producer: RecordedProducer, request_for_both: dg.RunRequest
) -> None:
    catalog = open_catalog(own.settings.iceberg_catalog_uri, own.settings.iceberg_warehouse)
    with catalog.load_table((own.feed.name, "raw_trades")).transaction() as properties:
        properties.set_properties({"commit.retry.num-retries": "4"})
    with carrying_out(own, request_for_both, K2_PAUSE_AT="before_cas") as zombie:
        overtaken(own, request_for_both, zombie)
    with pytest.raises(AssertionError, match="doubled"):
        assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, FaultTally(0))


def test_without_another_look_at_the_ledger_the_checker_finds_doubled_rows(
    own: OwnFeed, producer: RecordedProducer, request_for_both: dg.RunRequest
) -> None:
    with carrying_out(own, request_for_both, changed=LOOKS_ONCE, K2_PAUSE_AT="before_cas") as zombie:
        overtaken(own, request_for_both, zombie)
    with pytest.raises(AssertionError, match="doubled"):
        assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, FaultTally(0))
