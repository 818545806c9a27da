"""Cancels and corrections that name a trade of an earlier day reach that day, through the real jobs and catalog."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster import DagsterInstance

from k2_assets.records.run_scope import days_tag, tagged_days
from k2_market.feeds.feed import Feed, Ids, IdScope, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.proofs.bars_proof import prove_bars
from k2_resources.raw.delivery import Delivery
from k2_resources.settings import Settings
from k2_sensors.stale_day_sensor import next_build

pytestmark = pytest.mark.slow

MONDAY, TUESDAY, WEDNESDAY = date(2014, 3, 10), date(2014, 3, 11), date(2014, 3, 12)
LONG_AFTER = datetime(2014, 5, 1, tzinfo=UTC)


class Market:
    """A feed's tables, to which messages are committed and whose stale days are built as the daemon would."""

    def __init__(self, settings: Settings, instance: DagsterInstance, unique_within: IdScope = IdScope.SYMBOL) -> None:
        asx = load_feeds(settings.feed_directories)["asx"]
        self.feed: Feed = asx.model_copy(update={"ids": Ids(unique_within=unique_within)})
        self.iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
        self._job = build_defs(settings=settings, feeds={"asx": self.feed}).resolve_job_def("asx_build")
        self._instance = instance
        self._offset = 0

    def send(self, day: date, *messages: dict[str, Any]) -> None:
        rows = [self._row(day, n, said) for n, said in enumerate(messages, self._offset)]
        covered = RangeSet.of([OffsetRange("t", 0, self._offset, self._offset + len(rows))])
        delivery = Delivery(pa.Table.from_pylist(rows, schema=RAW_TRADES), covered, {"t": "trades"}, "a-run")
        self.iceberg.raw_table("asx", TRADES).commit(delivery)
        self._offset += len(rows)

    def _row(self, day: date, offset: int, said: dict[str, Any]) -> dict[str, Any]:
        return {
            "trade_date": day,
            "symbol": "BHP",
            "exchange_timestamp": datetime(day.year, day.month, day.day, 1, tzinfo=UTC) + timedelta(seconds=offset),
            "trade_id": f"t{offset}",
            "price": Decimal(500),
            "quantity": Decimal(7),
            "side": "UNKNOWN",
            "conditions": [],
            "action": "NEW",
            "exchange": "ASX",
            "currency": "AUD",
            "kafka_topic_id": "t",
            "kafka_partition": 0,
            "kafka_offset": offset,
        } | said

    def build_what_is_stale(self) -> list[tuple[date, ...]]:
        """Carry out builds until none is asked for; the days of each."""
        built: list[tuple[date, ...]] = []
        while isinstance(
            request := next_build(self.feed, TRADES, self.iceberg, self._instance, LONG_AFTER), dg.RunRequest
        ):
            days = tagged_days(request.tags)
            result = self._job.execute_in_process(
                instance=self._instance, partition_key=request.partition_key, tags={**request.tags, **days_tag(days)}
            )
            assert result.success
            built.append(days)
            assert len(built) < 10, built
        found = prove_bars(self.iceberg.catalog(), self.feed, None, LONG_AFTER)
        assert found.holds, found.violations
        return built

    def trades(self, day: date) -> list[tuple[str, int, int]]:
        rows = self.iceberg.day_table("asx", "trades").read_day(day).to_pylist()
        return [(row["trade_id"], int(row["price"]), int(row["quantity"])) for row in rows]

    def volume(self, day: date) -> int:
        (bar,) = self.iceberg.day_table("asx", "ohlcv_1d").read_day(day)["volume"].to_pylist() or [Decimal(0)]
        return int(bar)


@pytest.fixture
def market(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Market]:
    settings = Settings(home=tmp_path / "k2", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Market(settings, instance, getattr(request, "param", IdScope.SYMBOL))


def test_a_cancel_of_yesterdays_trade_takes_it_out_of_yesterdays_bars(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"}, {"trade_id": "b", "quantity": Decimal(1)})
    market.build_what_is_stale()
    market.send(TUESDAY, {"trade_id": "c"}, {"action": "CANCEL", "corrects_trade_id": "a"})

    assert market.build_what_is_stale() == [(TUESDAY,), (MONDAY,)]
    assert market.trades(MONDAY) == [("b", 500, 1)]
    assert market.volume(MONDAY) == 1
    assert market.trades(TUESDAY) == [("c", 500, 7)]


def test_a_correction_of_yesterdays_trade_corrects_yesterday_and_is_no_trade_of_today(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.send(TUESDAY, {"trade_id": "c"}, {"action": "CORRECT", "corrects_trade_id": "a", "price": Decimal(5)})

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 5, 7)]
    assert market.trades(TUESDAY) == [("c", 500, 7)]


def test_a_correction_of_a_correction_of_yesterdays_trade_reaches_it(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.send(
        TUESDAY,
        {"action": "CORRECT", "corrects_trade_id": "a", "price": Decimal(5), "trade_id": "x"},
        {"action": "CORRECT", "corrects_trade_id": "x", "price": Decimal(6), "trade_id": "y"},
    )

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 6, 7)]
    assert market.trades(TUESDAY) == []


def test_the_nearest_earlier_day_that_reports_the_id_is_meant(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"}, {"trade_id": "only-monday"})
    market.send(TUESDAY, {"trade_id": "a"})
    market.send(
        WEDNESDAY,
        {"action": "CANCEL", "corrects_trade_id": "a"},
        {"action": "CANCEL", "corrects_trade_id": "only-monday"},
    )

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 500, 7)]
    assert market.trades(TUESDAY) == []


def test_a_trade_of_the_day_itself_is_meant_before_one_of_an_earlier_day(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.send(TUESDAY, {"trade_id": "a"}, {"action": "CANCEL", "corrects_trade_id": "a"})

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 500, 7)]
    assert market.trades(TUESDAY) == []


def test_a_trade_that_comes_after_the_cancel_that_names_it_is_taken_out_all_the_same(market: Market) -> None:
    market.send(TUESDAY, {"trade_id": "c"}, {"action": "CORRECT", "corrects_trade_id": "a", "price": Decimal(5)})
    market.build_what_is_stale()
    assert market.trades(TUESDAY) == [("c", 500, 7), ("a", 5, 7)]  # for all that is known it is a trade of its own
    market.send(MONDAY, {"trade_id": "a"})

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 5, 7)]
    assert market.trades(TUESDAY) == [("c", 500, 7)]


def test_a_day_that_lacks_what_a_later_day_says_of_it_is_found_by_verification(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.build_what_is_stale()
    market.send(TUESDAY, {"action": "CANCEL", "corrects_trade_id": "a"})

    found = prove_bars(market.iceberg.catalog(), market.feed, [MONDAY], LONG_AFTER)

    assert not found.holds
    assert found.violations[0].where == ("BHP a: there, but no message reports it as it stands",)


def test_a_second_word_on_another_day_counts_over_the_first(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.send(TUESDAY, {"action": "CORRECT", "corrects_trade_id": "a", "price": Decimal(5)})
    market.build_what_is_stale()
    market.send(WEDNESDAY, {"action": "CORRECT", "corrects_trade_id": "a", "price": Decimal(6)})
    market.build_what_is_stale()
    assert market.trades(MONDAY) == [("a", 6, 7)]
    market.send(WEDNESDAY, {"action": "CANCEL", "corrects_trade_id": "a"})

    market.build_what_is_stale()

    assert [market.trades(day) for day in (MONDAY, TUESDAY, WEDNESDAY)] == [[], [], []]


def test_a_cancel_of_a_trade_that_no_day_reports_leaves_all_days_alone_and_does_not_build_for_ever(
    market: Market,
) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.send(TUESDAY, {"trade_id": "c"}, {"action": "CANCEL", "corrects_trade_id": "nobody"})

    assert market.build_what_is_stale() == [(MONDAY, TUESDAY)]
    market.send(MONDAY, {"trade_id": "late"})
    assert market.build_what_is_stale() == [(MONDAY, TUESDAY)]  # late trades might have been the one


@pytest.mark.parametrize("market", [IdScope.DAY], indirect=True)
def test_a_cancel_reaches_no_other_day_where_ids_begin_anew_each_day(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"})
    market.send(TUESDAY, {"trade_id": "c"}, {"action": "CANCEL", "corrects_trade_id": "a"})

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 500, 7)]
    assert market.trades(TUESDAY) == [("c", 500, 7)]


@pytest.mark.parametrize("market", [IdScope.VENUE], indirect=True)
def test_a_cancel_of_a_venue_reaches_the_trade_of_that_venue_on_an_earlier_day(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"}, {"trade_id": "a", "exchange": "CXA"})
    market.send(TUESDAY, {"action": "CANCEL", "corrects_trade_id": "a", "exchange": "CXA"})

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("ASX:a", 500, 7)]


@pytest.mark.parametrize("market", [IdScope.FEED], indirect=True)
def test_an_id_counts_once_in_the_whole_feed_where_ids_are_unique_in_it(market: Market) -> None:
    market.send(MONDAY, {"trade_id": "a"}, {"trade_id": "a", "symbol": "RIO"}, {"trade_id": "b", "symbol": "RIO"})

    market.build_what_is_stale()

    assert market.trades(MONDAY) == [("a", 500, 7), ("b", 500, 7)]
