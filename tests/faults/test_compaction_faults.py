"""Compaction beside ingestion, each in its own process, stopped and killed: the checker finds every message once."""

import signal
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from catching_up import catch_up, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from ingest_processes import catching_up, running
from own_feeds import OwnFeed, own_feed
from recorded_producer import RecordedProducer
from trade_batches import DAY, split

from k2_resources.iceberg.scan_files import day_files

COMPACTS = """
import sys
from k2_market.kinds.trades import TRADES
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.maintenance.raw_compaction import RawCompactor
from k2_resources.settings import Settings

settings = Settings.load()
catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
RawCompactor(catalog, sys.argv[1], TRADES, lambda days: days).compact()
"""


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url)


@pytest.fixture
def producer(own: OwnFeed) -> RecordedProducer:
    """Has sent messages that lie in three files of a day, and more that are not ingested."""
    producer = own.producer()
    for batch in split(own.trades(800), 200, 200, 200):
        if producer.acked:
            reaches_no_lag(own)
        producer.send(batch)
        producer.flush()
    assert files(own) == 3
    return producer


def files(own: OwnFeed, day: date = DAY) -> int:
    return day_files(own.raw().table, day).files


def compacting(own: OwnFeed, **environment: str) -> Any:
    return running(own, COMPACTS, own.feed.name, **environment)


def test_a_compaction_that_wakes_up_after_an_ingest_loses_and_doubles_nothing(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally
) -> None:
    with compacting(own, K2_PAUSE_AT="before_compaction_cas") as zombie:
        zombie.wait_until_stopped()
        reaches_no_lag(own)
        zombie.go_on()
        code, said = zombie.ends()
    assert code == 0, said
    assert files(own) == 1
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K10")


def test_an_ingest_that_wakes_up_after_a_compaction_loses_and_doubles_nothing(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally
) -> None:
    with catching_up(own, K2_PAUSE_AT="before_cas") as zombie:
        zombie.wait_until_stopped()
        with compacting(own) as compaction:
            code, said = compaction.ends()
        assert code == 0, said
        assert files(own) == 1
        zombie.go_on()
        code, said = zombie.ends()
    assert code == 0, said
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K10")


@pytest.mark.parametrize("point", ["before_compaction_cas", "after_compaction_cas"])
def test_a_compaction_killed_beside_its_commit_loses_and_doubles_nothing(
    own: OwnFeed, producer: RecordedProducer, tally: FaultTally, point: str
) -> None:
    with compacting(own, K2_CRASH_AT=point) as killed:
        assert killed.ends()[0] == -signal.SIGKILL
    reaches_no_lag(own)
    with compacting(own) as compaction:
        code, said = compaction.ends()
    assert code == 0, said
    assert files(own) == 1
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K11")
