"""Processes stopped by SIGSTOP for days, as it seems to the orphan cleaner, which takes their files for abandoned."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from catching_up import carried_out, catch_up, planned, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from ingest_processes import carrying_out, catching_up, running
from own_feeds import OwnFeed, own_feed
from recorded_producer import RecordedProducer
from simulated_cleaning import one_trade
from trade_batches import DAY, split

from k2_assets.names import ingest_op_name
from k2_market.kinds.trades import TRADES
from k2_market.kinds.trades import TRADES as TRADES_KIND
from k2_market.messages.outgoing import OutgoingMessages
from k2_market.plans.orphan_files import SweepPlan
from k2_platform.catch_up import local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.owned_catalog import OwnedCatalog
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner

pytestmark = pytest.mark.slow

REST = timedelta(hours=24)
LATER = (25, 50, 75)
"""Hours after which the cleaner looks: it marks at the first look, and deletes at the second."""

CLEANS = """
import sys
from datetime import UTC, datetime, timedelta
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.settings import Settings

settings = Settings.load()
catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
now = datetime.now(UTC) + timedelta(hours=float(sys.argv[2]))
OrphanCleaner(catalog, timedelta(hours=24), lambda _: now).clean(sys.argv[1], "raw_trades")
"""


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url, partitions=len(LATER) + 1)


@pytest.fixture
def producer(own: OwnFeed) -> RecordedProducer:
    """Has sent messages to all partitions, of which none is ingested."""
    producer = own.producer()
    producer.send(next(trades(own)))
    producer.flush()
    return producer


def trades(own: OwnFeed) -> Iterator[OutgoingMessages]:
    """Trades of a day in two parts, of which the first has messages for every partition."""
    return split(own.trades(900, symbols=60), 800)


def catalog_of(own: OwnFeed) -> OwnedCatalog:
    return open_catalog(own.settings.iceberg_catalog_uri, own.settings.iceberg_warehouse)


def requests(own: OwnFeed) -> Iterator[dg.RunRequest]:
    """What K2 plans to ingest, in runs of a partition each."""
    with local_instance(own.settings) as instance:
        request = planned(own, instance)
    assert isinstance(request, dg.RunRequest), request
    config = request.run_config["ops"][ingest_op_name(own.feed.name, TRADES_KIND)]["config"]  # type: ignore[index]
    for partition, spans in config["ranges"].items():
        alone = {**config, "ranges": {partition: spans}}
        yield request._replace(run_config={"ops": {ingest_op_name(own.feed.name, TRADES_KIND): {"config": alone}}})


def clean(own: OwnFeed, table: str, hours: float) -> SweepPlan:
    now = datetime.now(UTC) + timedelta(hours=hours)
    swept = OrphanCleaner(catalog_of(own), REST, lambda _: now).clean(own.feed.name, table)
    assert swept is not None
    return swept


def parquet(swept: SweepPlan) -> list[str]:
    return [each.path for each in swept.deletable if each.path.endswith(".parquet")]


def elsewhere(own: OwnFeed, home: Path) -> OwnFeed:
    """The same tables from another home of Dagster's, which knows nothing of the first one's runs."""
    tables = {"catalog_uri": own.settings.iceberg_catalog_uri, "warehouse": own.settings.iceberg_warehouse}
    return OwnFeed(own.feed, own.settings.model_copy(update={"home": home, **tables}), own.schema_id)


@pytest.mark.parametrize("point", ["before_cas", pytest.param("parquet_written", marks=pytest.mark.slow)])
def test_a_run_whose_files_were_cleaned_away_while_it_stood_still_commits_nothing_and_its_rows_come_again(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally, tmp_path: Path, point: str
) -> None:
    frozen, *others = requests(own)
    with carrying_out(own, frozen, K2_PAUSE_AT=point) as zombie:
        zombie.wait_until_stopped()
        other = elsewhere(own, tmp_path / "other")
        deleted = []
        with local_instance(other.settings) as instance:
            for request, hours in zip(others, LATER, strict=True):
                assert carried_out(other, request, instance) == []
                deleted += parquet(clean(own, "raw_trades", hours))
        assert len(deleted) == 1
        before = own.ledger()
        zombie.go_on()
        code, said = zombie.ends()
    assert code != 0
    assert f"a file that was to be committed is not there: {own.settings.iceberg_warehouse}" in said
    assert own.ledger() == before
    assert reaches_no_lag(own).runs == 1
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K12")


def test_a_run_that_stood_still_while_others_were_cleaned_up_writes_its_rows_anew_and_commits_them(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally, tmp_path: Path
) -> None:
    abandoned, frozen, *others = requests(own)
    with carrying_out(own, abandoned, K2_CRASH_AT="before_cas") as killed:
        killed.ends()
    clean(own, "raw_trades", 25)
    with carrying_out(own, frozen, K2_PAUSE_AT="before_cas") as zombie:
        zombie.wait_until_stopped()
        other = elsewhere(own, tmp_path / "other")
        with local_instance(other.settings) as instance:
            assert carried_out(other, others[0], instance) == []
        assert len(parquet(clean(own, "raw_trades", 50))) == 1
        zombie.go_on()
        code, said = zombie.ends()
    assert code == 0, said
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K12")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_announcement", "orphans_announced", "orphan_half"])
def test_a_cleaner_that_stood_still_before_it_deletes_takes_no_file_that_was_committed_meanwhile(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally, tmp_path: Path, point: str
) -> None:
    frozen, first, *others = requests(own)
    other = elsewhere(own, tmp_path / "other")
    with local_instance(other.settings) as instance, carrying_out(own, frozen, K2_PAUSE_AT="before_cas") as zombie:
        zombie.wait_until_stopped()
        assert carried_out(other, first, instance) == []
        clean(own, "raw_trades", 25)
        assert carried_out(other, others[0], instance) == []
        with running(own, CLEANS, own.feed.name, "50", K2_PAUSE_AT=point) as cleaner:
            cleaner.wait_until_stopped()
            zombie.go_on()
            zombie.ends()
            cleaner.go_on()
            code, said = cleaner.ends()
    assert code == 0, said
    reaches_no_lag(own)
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K12")


def test_a_build_whose_file_was_cleaned_away_while_it_stood_still_publishes_nothing_and_is_made_anew(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally
) -> None:
    reaches_no_lag(own)
    table = DayTable(catalog_of(own), own.feed.name, TRADES)
    with catching_up(own, K2_PAUSE_AT="bars_half") as zombie:
        zombie.wait_until_stopped()
        deleted = []
        for hours in LATER:
            day = DAY - timedelta(days=hours)
            table.replace_day(day, one_trade(day), "other")
            deleted += parquet(clean(own, TRADES, hours))
        assert deleted
        zombie.go_on()
        code, said = zombie.ends()
    assert code != 0, said
    (failed,) = own.runs(dg.DagsterRunStatus.FAILURE)
    assert "is not there" in _why(own, failed)
    assert table.read_day(DAY).num_rows == 0
    assert catch_up(own).failed == 0
    assert table.read_day(DAY).num_rows > 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K12")


def test_a_build_that_another_overtook_while_it_stood_still_publishes_nothing_over_it(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally, tmp_path: Path
) -> None:
    reaches_no_lag(own)
    with catching_up(own, K2_PAUSE_AT="bars_half") as zombie:
        zombie.wait_until_stopped()
        producer.send(list(trades(own))[1])
        producer.flush()
        assert catch_up(elsewhere(own, tmp_path / "other")).failed == 0
        newest = DayTable(catalog_of(own), own.feed.name, TRADES).read_day(DAY)
        zombie.go_on()
        code, said = zombie.ends()
    assert code == 0, said
    assert DayTable(catalog_of(own), own.feed.name, TRADES).read_day(DAY).equals(newest)
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K13")


def _why(own: OwnFeed, run: dg.DagsterRun) -> str:
    """What a run failed by."""
    with local_instance(own.settings) as instance:
        events = [each.dagster_event for each in instance.all_logs(run.run_id)]
    failures = [each.step_failure_data.error for each in events if each is not None and each.is_step_failure]
    return " ".join((error.cause or error).message for error in failures if error is not None)
