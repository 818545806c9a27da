"""Promises of the seed's decisions that no module's own tests state; `docs/decisions/verification.md` says which."""

import time
from typing import Any

import pytest
from market_rows import batches, message, raw_table
from repository import SHIPPED_FEEDS

from k2_assets.checks import BLOCKING
from k2_market.feeds.feed import SequenceScope, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.quality.finding import Severity
from k2_market.quality.raw_rules import sequence_gaps
from k2_market.quality.sequences import SequenceTracker
from k2_resources.kafka import topic_reader

FEEDS = load_feeds([SHIPPED_FEEDS])


def test_no_reader_lets_kafka_commit_offsets_and_each_has_five_minutes_for_a_slow_write(
    monkeypatch: pytest.MonkeyPatch,
):
    asked_for: list[dict[str, Any]] = []
    monkeypatch.setattr(topic_reader, "Consumer", lambda settings, logger: asked_for.append(settings))

    topic_reader.TopicReader("broker:9092", "trades", "k2-asx-raw-trades")._consumer()

    (settings,) = asked_for
    assert settings["enable.auto.commit"] is False
    assert settings["max.poll.interval.ms"] == 300_000


def test_topics_are_named_after_asset_class_kind_and_exchange_and_asx_has_thirty_partitions():
    for feed in FEEDS.values():
        assert feed.topics.trades == f"market.{feed.asset_class}.trades.{feed.name}"
        assert feed.topics.quotes in (None, f"market.{feed.asset_class}.quotes.{feed.name}")
    assert FEEDS["asx"].topics.partitions == 30


def test_a_gap_in_sequence_numbers_warns_and_blocks_nothing():
    rows = raw_table([message(0, sequence_number=1), message(1, sequence_number=3)])

    finding = sequence_gaps(batches(rows), SequenceScope.SYMBOL)

    assert not finding.passed
    assert "sequence_gaps" in TRADES.checks
    assert "sequence_gaps" not in BLOCKING
    assert finding.severity is Severity.WARN


def test_tracking_costs_less_than_a_millisecond_a_message_with_all_its_keys_in_use():
    tracker = SequenceTracker(capacity=10_000)
    messages = [(f"SYMBOL{number % 10_000}", number // 10_000) for number in range(50_000)]

    started = time.perf_counter()
    for key, number in messages:
        tracker.observe(key, number)
    seconds = time.perf_counter() - started

    assert seconds / len(messages) < 0.001
