"""What a run takes that was started without ranges, as from the UI."""

from datetime import date, datetime

import pytest
from repository import SHIPPED_FEEDS

from k2_assets.raw_table import pending_of_day
from k2_market.feeds.feed import load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.ledger.ledger import Batch, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_resources.kafka.topic_reader import OffsetsGone
from k2_resources.kafka.topics import KafkaTopics

DAY = date(2026, 11, 20)
FEED = load_feeds([SHIPPED_FEEDS])["sim"]


class ScriptedTopics(KafkaTopics):
    """A topic of one partition whose day lies at offsets 5 to 20."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")

    def state(self, topic: str) -> TopicState:
        return TopicState(topic, "t", (PartitionState(0, 0, 30, 30),))

    def offsets_at(self, topic: TopicState, instant: datetime) -> dict[int, int]:
        return {0: 5 if instant == TradingCalendar.of(FEED).day_start(DAY) else 20}


def planned(ledger: Ledger) -> RangeSet:
    return pending_of_day(FEED.topics.trades, TradingCalendar.of(FEED), ScriptedTopics(), ledger, DAY)


def one(start: int, end: int) -> RangeSet:
    return RangeSet.of([OffsetRange("t", 0, start, end)])


def test_a_run_without_ranges_takes_what_its_day_holds_and_the_ledger_lacks() -> None:
    assert planned(Ledger().with_batch(Batch("b", one(0, 8), 8), {"t": "trades"})) == one(8, 20)


def test_a_run_without_ranges_reads_nothing_of_a_halted_topic_and_says_why() -> None:
    ledger = Ledger().with_batch(Batch("b", one(0, 8), 8), {"t": "trades"})
    halted = ledger.with_batch(Batch("c", RangeSet(), 0, truncated=one(6, 8)), {"t": "trades"})
    with pytest.raises(OffsetsGone, match=r"halted.*t/0\[6,8\)"):
        planned(halted)
