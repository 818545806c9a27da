"""One symbol's trades whose sums no bar can hold, among others: built by the real job, on a real catalog."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster import AssetCheckSeverity, DagsterInstance

from k2_assets.records.run_scope import days_tag
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import BAR_INTERVALS, RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.proofs.bars_proof import prove_bars
from k2_resources.raw.delivery import Delivery
from k2_resources.settings import Settings
from k2_sensors.alerts import alerts_of_checks
from k2_sensors.stale_day_sensor import next_build

pytestmark = pytest.mark.slow

DAY = date(2014, 3, 11)
LONG_AFTER = datetime(2014, 4, 1, tzinfo=UTC)
OPEN = datetime(2014, 3, 11, 0, 0, tzinfo=UTC)
LARGEST = (Decimal("99999999.9999999999"), Decimal("9999999999.99999999"))
"""Fit a message, and a hundred such trades fit a bar."""
USUAL = (Decimal("36.45"), Decimal(10))


class Market:
    """A feed's tables, and the builds of one day of it."""

    def __init__(self, home: Path, instance: DagsterInstance) -> None:
        self.settings = Settings(home=home, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
        self.feed: Feed = load_feeds(self.settings.feed_directories)["asx"]
        self.iceberg = IcebergCatalogResource(
            uri=self.settings.iceberg_catalog_uri, warehouse=self.settings.iceberg_warehouse
        )
        self._instance = instance
        self._offset = 0

    def send(self, symbol: str, values: tuple[Decimal, Decimal], *minutes: int) -> str:
        """Send a trade at each minute of the session; gives the first one's id."""
        rows = [self._row(self._offset + n, symbol, values, minute) for n, minute in enumerate(minutes)]
        self._commit(rows)
        return str(rows[0]["trade_id"])

    def cancel(self, symbol: str, trade_id: str) -> None:
        row = self._row(self._offset, symbol, USUAL, 200)
        self._commit([{**row, "action": "CANCEL", "corrects_trade_id": trade_id}])

    def build(self) -> str:
        job = build_defs(settings=self.settings, feeds={"asx": self.feed}).resolve_job_def("asx_build")
        result = job.execute_in_process(
            instance=self._instance, partition_key=DAY.isoformat(), tags=days_tag([DAY]), raise_on_error=False
        )
        assert result.success
        return result.run_id

    def symbols(self) -> dict[str, set[str]]:
        """Those with bars, by interval."""
        catalog = open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse)
        return {
            each.name: set(DayTable(catalog, "asx", each.table).read_day(DAY)["symbol"].to_pylist())
            for each in BAR_INTERVALS
        }

    def _row(self, offset: int, symbol: str, values: tuple[Decimal, Decimal], minute: int) -> dict[str, Any]:
        return {
            "trade_date": DAY,
            "symbol": symbol,
            "exchange_timestamp": OPEN + timedelta(minutes=minute),
            "trade_id": f"t{offset:06}",
            "price": values[0],
            "quantity": values[1],
            "side": "UNKNOWN",
            "conditions": [],
            "action": "NEW",
            "currency": "AUD",
            "kafka_topic_id": "t",
            "kafka_partition": 0,
            "kafka_offset": offset,
        }

    def _commit(self, rows: list[dict[str, Any]]) -> None:
        covered = RangeSet.of([OffsetRange("t", 0, self._offset, self._offset + len(rows))])
        delivery = Delivery(pa.Table.from_pylist(rows, schema=RAW_TRADES), covered, {"t": "trades"}, "a-run")
        self.iceberg.raw_table("asx", TRADES).commit(delivery)
        self._offset += len(rows)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


def bar_checks(instance: DagsterInstance, run_id: str) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = [record.event_log_entry.dagster_event.asset_check_evaluation_data for record in records]
    return {(each.asset_key.path[-1].removeprefix("ohlcv_"), each.check_name): each for each in found}


def test_one_symbols_overflow_keeps_back_that_symbols_bars_of_that_interval_alone_until_it_is_mended(
    tmp_path: Path, instance: DagsterInstance
) -> None:
    market = Market(tmp_path / "k2", instance)
    market.send("BHP", USUAL, 0, 1, 30)
    in_minute = market.send("MINUTE", LARGEST, *[10] * 101)
    in_day = market.send("DAY", LARGEST, *range(101))

    run_id = market.build()

    lacking = {"1m": {"MINUTE"}, "5m": {"MINUTE"}, "15m": {"MINUTE"}, "30m": {"MINUTE"}, "1h": {"MINUTE"}}
    lacking["1d"] = {"MINUTE", "DAY"}
    assert market.symbols() == {name: {"BHP", "MINUTE", "DAY"} - without for name, without in lacking.items()}
    found = bar_checks(instance, run_id)
    for name, without in lacking.items():
        complete = found[name, "bars_complete"]
        assert (complete.passed, complete.severity, complete.blocking) == (False, AssetCheckSeverity.ERROR, False)
        examples = [record.data for record in complete.metadata["examples"].records]
        assert {(each["symbol"], each["interval"]) for each in examples} == {(each, name) for each in without}
        assert found[name, "bar_invariants"].passed
    assert found["1d", "roll_up_identity"].passed
    run = instance.get_run_by_id(run_id)
    assert run is not None
    alerts = alerts_of_checks(instance, run)
    assert {each.subject for each in alerts if each.check == "bars_complete"} == {f"asx/ohlcv_{n}" for n in lacking}
    assert not isinstance(next_build(market.feed, TRADES, market.iceberg, instance, LONG_AFTER), dg.RunRequest)
    proof = prove_bars(market.iceberg.catalog(), market.feed, [DAY], LONG_AFTER)
    assert proof.holds
    assert any("MINUTE" in place for note in proof.notes for place in note.where)

    market.cancel("MINUTE", in_minute)
    market.cancel("DAY", in_day)
    found = bar_checks(instance, market.build())
    assert all(each == {"BHP", "MINUTE", "DAY"} for each in market.symbols().values())
    assert all(found[name, "bars_complete"].passed for name in lacking)
    assert prove_bars(market.iceberg.catalog(), market.feed, [DAY], LONG_AFTER).holds
