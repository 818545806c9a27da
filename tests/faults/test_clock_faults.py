"""Clocks that are set, time zones that differ, and the days on which calendars are odd: each event in its right day."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from checker import assert_nothing_lost_or_doubled
from faked_clock import FakedClock, wait_until_stopped
from fault_tally import FaultTally
from faulted_feed import DAY, EARLIER_DAY, NAME, FaultedFeed, assert_whole, k2_command

from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.registry_process import LocalRegistry
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.tables import BAR_INTERVALS
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.day_table import DayTable

TRADES = 500
SYDNEY = ZoneInfo("Australia/Sydney")
ALWAYS_OPEN_IN_SYDNEY = {
    'timezone = "America/New_York"': 'timezone = "Australia/Sydney"',
    'calendar = "XNYS"': 'calendar = "24/7"',
    "start_date = 2026-01-02": "start_date = 2024-01-02",
}
LONG_DAY = date(2026, 4, 5)
"""Clocks go back in Sydney."""

SHORT_DAY = date(2026, 10, 4)
"""Clocks go forward in Sydney."""

ODD_DAYS = (date(2024, 2, 29), date(2025, 12, 31), date(2026, 1, 1))
AFTER_32_BITS = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)


@pytest.fixture
def faulted(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry) -> FaultedFeed:
    return FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, registry.url)


@pytest.fixture
def clock(tmp_path: Path) -> FakedClock:
    return FakedClock(tmp_path)


@pytest.fixture
def in_sydney(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry) -> FaultedFeed:
    """A feed that is always open, and whose trading days are Sydney's."""
    return FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, registry.url, ALWAYS_OPEN_IN_SYDNEY)


def catch_up_under(environment: Mapping[str, str], faulted: FaultedFeed) -> subprocess.CompletedProcess[str]:
    done = faulted.k2("catch-up", "--feed", NAME, environment=environment)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return done


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(hours=-1), timedelta(days=-1)], ids=str)
def test_a_run_by_a_clock_that_is_wrong_is_followed_well_by_one_whose_clock_is_right(
    ahead: timedelta, faulted: FaultedFeed, clock: FakedClock, tally: FaultTally
) -> None:
    faulted.send(TRADES, EARLIER_DAY)
    clock.set_ahead(ahead)
    assert catch_up_under(clock.environment, faulted).returncode == 0
    assert faulted.lag() == 0
    faulted.send(TRADES, DAY)
    faulted.catch_up_to_the_end()
    assert faulted.ledger().dead_letters == 0
    assert_built(faulted, (EARLIER_DAY, DAY))
    assert_whole(faulted, tally, "T1")


@pytest.mark.slow
def test_ranges_that_failed_by_a_clock_that_was_ahead_do_not_rest_until_then(
    faulted: FaultedFeed, clock: FakedClock, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    away = faulted.with_settings(registry_url="http://127.0.0.1:1")
    clock.set_ahead(timedelta(days=1))
    assert catch_up_under(clock.environment, away).returncode == 1
    done = faulted.catch_up()
    assert (done.ingest_runs, done.failed) == (1, 0)
    assert_whole(faulted, tally, "T1")


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(days=1)], ids=str)
@pytest.mark.parametrize("point", ["before_cas", "after_commit", "bars_half"])
def test_a_clock_that_is_set_in_the_middle_of_a_run_changes_nothing(
    ahead: timedelta, point: str, faulted: FaultedFeed, clock: FakedClock, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    process = subprocess.Popen(
        k2_command("catch-up", "--feed", NAME),
        env=os.environ | faulted.settings.environment_variables() | clock.environment | {"K2_PAUSE_AT": point},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until_stopped(process.pid)
    clock.set_ahead(ahead)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=240) == 0
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    assert_built(faulted, (EARLIER_DAY, DAY))
    assert_whole(faulted, tally, "T1")


@pytest.mark.slow
def test_trades_of_a_day_that_a_late_clock_has_not_reached_are_tried_again_by_themselves_when_it_has(
    in_sydney: FaultedFeed, clock: FakedClock, tally: FaultTally
) -> None:
    today = datetime.now(SYDNEY).date()
    trades = in_sydney.trades(20, today - timedelta(days=1)).with_columns(trade_date=pl.lit(today))
    in_sydney.producer.send(trade_messages(trades, in_sydney.feed, in_sydney.schema_id()))
    in_sydney.producer.flush()
    clock.set_ahead(timedelta(days=-2))
    catch_up_under(clock.environment, in_sydney)
    dead = in_sydney.table().view().read_day(today - timedelta(days=1), "reject_reason", "payload").to_pylist()
    assert len(dead) == 20
    assert all(f"trade_date {today} outside" in row["reject_reason"] and row["payload"] for row in dead)
    in_sydney.catch_up_to_the_end()
    assert in_sydney.ledger().dead_letters == 0
    rows = in_sydney.table().view().read_day(today, "trade_id", "reject_reason").to_pylist()
    assert sorted(row["trade_id"] for row in rows if row["reject_reason"] is None) == sorted(trades["trade_id"])
    assert_whole(in_sydney, tally, "T1")


def around_midnights(faulted: FaultedFeed, days: tuple[date, ...]) -> tuple[OutgoingMessages, dict[str, date]]:
    """A few trades of each day and one at each side of its midnights, and to which day each of the latter belongs."""
    parts = [faulted.trades(50, day, seed=number) for number, day in enumerate(days)]
    edges: dict[str, date] = {}
    for begun in sorted({each + timedelta(days=after) for each in days for after in (0, 1)}):
        midnight = datetime.combine(begun, time(), SYDNEY).astimezone(UTC)
        for trade_id, day, instant in (
            (f"last before {begun}", begun - timedelta(days=1), midnight - timedelta(microseconds=1)),
            (f"first of {begun}", begun, midnight),
        ):
            edges[trade_id] = day
            parts.append(
                faulted.trades(1, begun).with_columns(
                    trade_id=pl.lit(trade_id),
                    trade_date=pl.lit(day),
                    exchange_timestamp_us=pl.lit(microseconds(instant)),
                    sequence_number=pl.lit(None, pl.Int64),
                )
            )
    return trade_messages(pl.concat(parts), faulted.feed, faulted.schema_id()), edges


def microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def tables_of(faulted: FaultedFeed) -> Iterator[pa.Table]:
    """All rows of all tables, day by day."""
    catalog = open_catalog(faulted.settings.iceberg_catalog_uri, faulted.settings.iceberg_warehouse)
    raw = faulted.table().view()
    days = sorted({day for commit in raw.commits for day in commit.days})
    for day in days:
        yield raw.read_day(day).sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
        for table in ("trades", *(interval.table for interval in BAR_INTERVALS)):
            yield DayTable(catalog, NAME, table).read_day(day)


@pytest.mark.parametrize(
    ("days", "zones"),
    [
        ((SHORT_DAY,), ("America/New_York",)),
        pytest.param((LONG_DAY,), ("America/New_York", "Asia/Kolkata"), marks=pytest.mark.slow),
        pytest.param(ODD_DAYS, ("America/New_York", "Asia/Kolkata"), marks=pytest.mark.slow),
    ],
    ids=["23 hours", "25 hours", "odd days"],
)
def test_rows_and_days_are_the_same_in_whatever_time_zone_the_machine_is(
    days: tuple[date, ...], zones: tuple[str, ...], in_sydney: FaultedFeed, tally: FaultTally
) -> None:
    messages, edges = around_midnights(in_sydney, days)
    in_sydney.producer.send(messages)
    in_sydney.producer.flush()
    found: dict[str, list[pa.Table]] = {}
    for zone in ("UTC", *zones):
        home = in_sydney.settings.home.with_name(zone.replace("/", "-"))
        elsewhere = in_sydney.with_settings(home=home)
        assert catch_up_under({"TZ": zone}, elsewhere).returncode == 0
        found[zone] = list(tables_of(elsewhere))
        assert elsewhere.ledger().dead_letters == 0
        assert_nothing_lost_or_doubled(elsewhere.settings, NAME, in_sydney.acked, tally, days=elsewhere.days())
        tally.injected("T2")
    assert all(found[zone] == found["UTC"] for zone in zones)
    rows = [row for table in found["UTC"] if "kafka_offset" in table.column_names for row in table.to_pylist()]
    assert {row["trade_id"]: row["trade_date"] for row in rows if row["trade_id"] in edges} == edges


def assert_built(faulted: FaultedFeed, days: tuple[date, ...]) -> None:
    catalog = open_catalog(faulted.settings.iceberg_catalog_uri, faulted.settings.iceberg_warehouse)
    assert all(DayTable(catalog, NAME, "ohlcv_1d").read_day(day).num_rows for day in days)


@pytest.mark.slow
def test_a_trade_after_32_bit_time_is_a_dead_letter_today_and_a_row_when_its_day_has_come(
    in_sydney: FaultedFeed, clock: FakedClock, tally: FaultTally
) -> None:
    day = AFTER_32_BITS.astimezone(SYDNEY).date()
    stamped = in_sydney.trades(10, EARLIER_DAY).with_columns(
        exchange_timestamp_us=pl.int_range(10, dtype=pl.Int64) * 1_000_000 + microseconds(AFTER_32_BITS) - 5_000_000,
        trade_date=pl.lit(day),
    )
    messages = trade_messages(stamped, in_sydney.feed, in_sydney.schema_id())
    # A broker takes no record time of the future, so these say in their record what they can't say to the broker.
    in_sydney.producer.send(replace(messages, timestamps_ms=[int(datetime.now().timestamp() * 1000)] * len(messages)))
    in_sydney.producer.flush()
    when_it_has_come = in_sydney.with_settings(home=in_sydney.settings.home.with_name("in-2038"))
    clock.set_ahead(AFTER_32_BITS + timedelta(days=1) - datetime.now(UTC))
    assert catch_up_under(clock.environment, when_it_has_come).returncode == 0
    rows = when_it_has_come.table().view().read_day(day, "exchange_timestamp", "reject_reason").to_pylist()
    assert [row["reject_reason"] for row in rows] == [None] * 10
    assert max(row["exchange_timestamp"] for row in rows) > AFTER_32_BITS
    assert_nothing_lost_or_doubled(
        when_it_has_come.settings, NAME, in_sydney.acked, tally, days=when_it_has_come.days()
    )

    in_sydney.catch_up_to_the_end()
    assert in_sydney.ledger().dead_letters == 10
    assert_whole(in_sydney, tally, "T3")
