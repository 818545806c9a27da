"""``k2 catch-up`` over several feeds: its exit code is true, and one feed's trouble ends no other's work."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from small_feeds import k2, with_feeds

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.ledger import PROPERTY
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_resources.iceberg.catalog import find_table, open_catalog
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

TRADE = "BTC,2026-11-02T10:00:00Z,100,1,t1"


@pytest.fixture
def settings(stack_settings: Settings, tmp_path: Path) -> Settings:
    """Settings with two feeds of the test's own, a trade waiting in the topic of each."""
    return with_feeds(stack_settings, tmp_path, first=[TRADE], second=[TRADE])


def catch_up(settings: Settings, **environment: str) -> tuple[int, dict[str, Any]]:
    """Run the command over the two feeds; gives its exit code and what it says of each."""
    names = [part for name in ("first", "second") for part in ("--feed", name)]
    result = k2(settings, "catch-up", *names, "--json", **environment)
    return result.exit_code, {each["feed"]: each for each in json.loads(result.stdout)}


def feed(settings: Settings, name: str) -> Feed:
    return load_feeds(settings.feed_directories)[name]


def halt(settings: Settings, name: str) -> None:
    """Record offsets that the log does not reach: the broker lost what it had acknowledged."""
    topic = KafkaTopics(settings.bootstrap_servers).state(feed(settings, name).topics.trades)
    assert topic is not None
    raw = RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), name, TRADES)
    covered = RangeSet.of([OffsetRange(topic.topic_id, 0, 0, 50)])
    empty = raw.view().read_day(date(2026, 11, 2))
    raw.commit(Delivery(empty, covered, {topic.topic_id: topic.name}, "run"))


def test_where_everything_is_done_the_exit_code_is_0(settings: Settings) -> None:
    code, done = catch_up(settings)

    assert code == 0
    assert all((each["left"], each["error"], each["ingest_runs"]) == ("", "", 1) for each in done.values())


def test_a_halted_feed_is_exit_code_1_and_the_others_are_caught_up(settings: Settings) -> None:
    halt(settings, "first")

    code, done = catch_up(settings)

    assert code == 1
    assert "halted" in done["first"]["left"]
    assert done["second"]["left"] == ""
    assert done["second"]["build_runs"] == 1


def test_a_feed_whose_ledger_cannot_be_read_ends_none_of_the_others(settings: Settings) -> None:
    catch_up(settings)
    table = find_table(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), "first", "raw_trades")
    assert table is not None
    with table.transaction() as transaction:
        transaction.set_properties({PROPERTY: "{}"})

    code, done = catch_up(settings)

    assert code == 1
    assert "ledger" in done["first"]["error"]
    assert done["second"]["error"] == ""


def test_a_range_that_rests_after_a_failure_is_exit_code_1(settings: Settings) -> None:
    code, done = catch_up(settings, K2_REGISTRY_URL="http://127.0.0.1:1")
    assert code == 1
    assert all(each["failed"] == 1 for each in done.values())

    code, done = catch_up(settings)

    assert code == 1
    assert all(each["failed"] == 0 for each in done.values())
    assert all("1 messages pending" in each["left"] for each in done.values())
