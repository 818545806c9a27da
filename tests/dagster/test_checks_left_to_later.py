"""The Kafka sensor's runs check their day, but for those of a large day that is open and has little new."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from k2_assets.names import ingest_job_name
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans import check_pacing
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.delivery import Delivery
from k2_resources.settings import Settings
from k2_sensors import kafka_sensor
from k2_sensors.kafka_sensor import next_ingest

DAY = date(2014, 3, 10)
DURING_IT, AFTER_IT = datetime(2014, 3, 10, 1, tzinfo=UTC), datetime(2014, 3, 12, 1, tzinfo=UTC)
RAW = dg.AssetKey(["asx", "raw_trades"])
ROWS, FEW = 100, 50


class GrowingTopics(KafkaTopics):
    """A topic of which the first hundred messages are in the table."""

    def __init__(self, end: int) -> None:
        self._end = end

    def state(self, topic: str) -> TopicState | None:
        return TopicState(topic, "T1", (PartitionState(0, 0, self._end, self._end),))

    def first_timestamps(self, topic: TopicState, ranges: Any) -> dict[int, datetime]:
        return {0: DURING_IT}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "k2")


@pytest.fixture
def feed(settings: Settings) -> Feed:
    return load_feeds(settings.feed_directories)["asx"]


@pytest.fixture
def iceberg(settings: Settings, feed: Feed, instance: dg.DagsterInstance) -> IcebergCatalogResource:
    """A table with a hundred rows of the day, and their report."""
    found = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    said = {
        "trade_date": [DAY] * ROWS,
        "kafka_topic_id": ["T1"] * ROWS,
        "kafka_partition": [0] * ROWS,
        "kafka_offset": list(range(ROWS)),
    }
    rows = pa.table([pa.array(said.get(each.name, [None] * ROWS), each.type) for each in RAW_TRADES], schema=RAW_TRADES)
    covered = RangeSet.of([OffsetRange("T1", 0, 0, ROWS)])
    found.raw_table(feed.name, TRADES).commit(Delivery(rows, covered, {"T1": feed.topics.trades}, "run"))
    report = dg.AssetMaterialization(RAW, partition=DAY.isoformat(), metadata={"dagster/row_count": ROWS})
    instance.report_runless_asset_event(report)
    return found


@pytest.mark.parametrize(
    ("new", "now", "few", "checks"),
    [
        (10, DURING_IT, FEW, False),
        (20, DURING_IT, FEW, True),
        (10, DURING_IT, 2 * ROWS, True),
        (10, AFTER_IT, FEW, True),
    ],
    ids=["large, open, little new", "a fifth of it new", "few rows", "closed"],
)
def test_a_run_leaves_the_checks_of_its_day_where_they_cost_more_than_it_does(
    settings: Settings,
    feed: Feed,
    iceberg: IcebergCatalogResource,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    new: int,
    now: datetime,
    few: int,
    checks: bool,
) -> None:
    for module in (kafka_sensor, check_pacing):
        monkeypatch.setattr(module, "FEW_ROWS", few)

    request = next_ingest(feed, TRADES, GrowingTopics(ROWS + new), iceberg, instance, now)

    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == DAY.isoformat()
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def(ingest_job_name(feed.name, TRADES))
    if request.asset_selection is not None:
        assert request.asset_check_keys is not None
        job = job.get_subset(
            asset_selection=set(request.asset_selection), asset_check_selection=set(request.asset_check_keys)
        )
    names = {node.name for node in job.nodes}
    assert names == {"asx__raw_trades", "asx__raw_trades_checks"} if checks else names == {"asx__raw_trades"}
