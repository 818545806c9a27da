"""A feed's file that changes under live data: days keep their rules until they are rebuilt, and never half of them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster import DagsterInstance

from k2_assets.checks import rules_finding
from k2_assets.records.run_scope import days_tag, tagged_days
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.catch_up import outdated_days_of, rebuild_feed
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.proofs.bars_proof import prove_bars
from k2_resources.raw.delivery import Delivery
from k2_resources.settings import Settings
from k2_sensors.stale_day_sensor import next_build

pytestmark = pytest.mark.slow

MONDAY, TUESDAY = date(2026, 3, 9), date(2026, 3, 10)
LONG_AFTER = datetime(2026, 5, 1, tzinfo=UTC)
FEED = """
name = "own"
exchange = "OWN"
asset_class = "crypto"
timezone = "UTC"
calendar = "24/7"
start_date = 2026-01-01
currency = "USD"
[topics]
trades = "market.crypto.trades.own"
"""


class Market:
    """A feed whose file can be changed, its tables and its builds."""

    def __init__(self, directory: Path, instance: DagsterInstance) -> None:
        self.instance = instance
        self._file = directory / "feeds" / "own.toml"
        self._file.parent.mkdir()
        self.settings = Settings(
            home=directory / "k2",
            feeds_dir=self._file.parent,
            kafka_bootstrap="127.0.0.1:1",
            registry_url="http://127.0.0.1:1",
        )
        uri, warehouse = self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse
        self.iceberg = IcebergCatalogResource(uri=uri, warehouse=warehouse)
        self._offset = 0
        self.change(FEED)

    def change(self, text: str) -> None:
        self._file.write_text(text)

    @property
    def feed(self) -> Feed:
        return load_feeds(self.settings.feed_directories)["own"]

    def send(self, day: date, price: int, *conditions: str) -> None:
        row = {
            "trade_date": day,
            "symbol": "X",
            "exchange_timestamp": datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
            + timedelta(minutes=self._offset),
            "trade_id": f"t{self._offset}",
            "price": Decimal(price),
            "quantity": Decimal(1),
            "side": "UNKNOWN",
            "conditions": list(conditions),
            "action": "NEW",
            "currency": "USD",
            "kafka_topic_id": "t",
            "kafka_partition": 0,
            "kafka_offset": self._offset,
        }
        covered = RangeSet.of([OffsetRange("t", 0, self._offset, self._offset + 1)])
        rows = pa.Table.from_pylist([row], schema=RAW_TRADES)
        self.iceberg.raw_table("own", TRADES).commit(Delivery(rows, covered, {"t": "trades"}, "a-run"))
        self._offset += 1

    def build_what_is_stale(self) -> None:
        job = build_defs(settings=self.settings, feeds={"own": self.feed}).resolve_job_def("own_build")
        while isinstance(
            request := next_build(self.feed, TRADES, self.iceberg, self.instance, LONG_AFTER), dg.RunRequest
        ):
            tags = {**request.tags, **days_tag(tagged_days(request.tags))}
            assert job.execute_in_process(
                instance=self.instance, partition_key=request.partition_key, tags=tags
            ).success

    def rebuild(self, first: date | None = None) -> list[date]:
        days = outdated_days_of(self.settings, self.feed, first, None)
        assert rebuild_feed(self.settings, self.feed, days, self.instance, lambda: LONG_AFTER) == []
        return days

    def highs(self) -> dict[date, int]:
        read = [self.iceberg.day_table("own", "ohlcv_1d").read_day(day).to_pylist() for day in (MONDAY, TUESDAY)]
        return {row["trade_date"]: int(row["high"]) for rows in read for row in rows}

    def starts(self) -> dict[date, int]:
        """The hour, UTC, at which each day's daily bar starts."""
        read = [self.iceberg.day_table("own", "ohlcv_1d").read_day(day).to_pylist() for day in (MONDAY, TUESDAY)]
        return {row["trade_date"]: row["bar_start"].hour for rows in read for row in rows}


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        made = Market(tmp_path, instance)
        for day in (MONDAY, TUESDAY):
            made.send(day, 10)
            made.send(day, 99, "R")
        made.build_what_is_stale()
        assert made.highs() == {MONDAY: 99, TUESDAY: 99}
        yield made


def test_days_keep_their_rules_when_the_feeds_file_changes_until_all_are_rebuilt(market: Market) -> None:
    market.change(FEED + '[conditions]\nno_price = ["R"]\n')
    market.send(MONDAY, 11)  # late: its day is built again
    market.build_what_is_stale()

    assert market.highs() == {MONDAY: 99, TUESDAY: 99}
    finding = rules_finding(market.feed, market.iceberg)
    assert (finding.passed, finding.numbers["outdated"]) == (False, 2)
    shown = prove_bars(market.iceberg.catalog(), market.feed, None, LONG_AFTER)
    assert not shown.holds
    assert shown.notes[0].where == (str(MONDAY), str(TUESDAY))

    assert market.rebuild() == [MONDAY, TUESDAY]
    assert market.highs() == {MONDAY: 11, TUESDAY: 10}
    assert rules_finding(market.feed, market.iceberg).passed
    assert prove_bars(market.iceberg.catalog(), market.feed, None, LONG_AFTER).holds
    assert market.rebuild() == []


def test_a_new_day_is_built_by_the_new_rules_and_a_range_is_rebuilt_alone(market: Market) -> None:
    market.change(FEED.replace('"UTC"', '"Asia/Kolkata"'))
    market.send(TUESDAY, 12)
    market.build_what_is_stale()
    assert market.starts() == {MONDAY: 0, TUESDAY: 0}

    assert market.rebuild(first=TUESDAY) == [TUESDAY]
    assert market.starts() == {MONDAY: 0, TUESDAY: 18}
    wednesday = TUESDAY + timedelta(days=1)
    market.send(wednesday, 10)
    market.build_what_is_stale()
    (row,) = market.iceberg.day_table("own", "ohlcv_1d").read_day(wednesday).to_pylist()
    assert row["bar_start"].hour == 18


def test_a_materialization_asked_for_by_a_person_adopts_the_feeds_rules(market: Market) -> None:
    market.change(FEED + '[conditions]\nno_price = ["R"]\n')
    job = build_defs(settings=market.settings, feeds={"own": market.feed}).resolve_job_def("own_build")

    assert job.execute_in_process(instance=market.instance, partition_key=str(MONDAY)).success

    assert market.highs() == {MONDAY: 10, TUESDAY: 99}
