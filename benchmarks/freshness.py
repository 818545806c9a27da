"""How long a trade takes from being sent to being visible in SQL, with default settings, under a real daemon.

``make bench-freshness``: a home of its own on free ports, started as ``k2 up`` starts it, and a live feed's day that
comes at 1,000 and then at 20,000 messages a second. A message is visible when its commit is made: from then on every
new statement reads it. Every fiftieth message is followed by its partition and offset. At the end ``k2 sql`` counts.
"""

import argparse
import json
import time
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from confluent_kafka import Producer
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from benchmarks.own_home import k2, own_home
from benchmarks.results_file import write_results
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.avro import TRADE, subject_of
from k2_market.simulation.market_simulator import simulate_day
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.snapshot_summary import RANGES
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.trade_producer import producer_settings
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors.kafka_sensor import INTERVAL_SECONDS

PACES = (1_000, 20_000)
_FOLLOWED = 50
_SYMBOLS = 500
_PATIENCE_SECONDS = 300
_WARM_UP_SECONDS = 20

Sent = tuple[int, int, float]
"""Partition, offset, and when it was sent (seconds since 1970)."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=int, default=180, help="how long messages come, at each pace")
    arguments.add_argument("--paces", type=int, nargs="*", default=list(PACES), help="messages a second")
    chosen = arguments.parse_args()
    found = {}
    for pace in chosen.paces:
        with own_home() as settings:
            k2(settings, "up")
            found[str(pace)] = once = _freshness(settings, pace, chosen.seconds)
            print(f"  {pace:,} messages/s: {once}", flush=True)
    write_results("freshness", {"sensor_interval_seconds": INTERVAL_SECONDS, "paces_per_second": found})


def _freshness(settings: Settings, pace: int, seconds: int) -> dict[str, Any]:
    feed = load_feeds(settings.feed_directories)["sim"]
    sent = _send(settings, feed, pace, seconds)
    total = pace * seconds
    _await(lambda: _rows(settings, feed) < total, f"{total} rows of {feed.name}")
    visible = _visible_at(settings, feed)
    starts = {partition: [each[0] for each in spans] for partition, spans in visible.items()}
    first = min(when for _, _, when in sent) + min(_WARM_UP_SECONDS, seconds / 4)
    waits = [
        visible[partition][bisect_right(starts[partition], offset) - 1][2] - when
        for partition, offset, when in sent
        if when >= first
    ]
    p50, p99, most = np.quantile(waits, [0.5, 0.99, 1.0])
    return {
        "messages": total,
        "rows_by_sql": _count_by_sql(settings, feed),
        "messages_followed": len(waits),
        "p50_seconds": round(float(p50), 2),
        "p99_seconds": round(float(p99), 2),
        "most_seconds": round(float(most), 2),
        "commits": len({end for spans in visible.values() for _, _, end in spans}),
    }


def _send(settings: Settings, feed: Feed, pace: int, seconds: int) -> list[Sent]:
    ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
    registry = SchemaRegistry(settings.schema_registry_url)
    schema_id = registry.register(subject_of(feed.topics.trades), TRADE)
    messages = _live(feed, schema_id, pace, seconds)
    sent: list[Sent] = []

    def follow(when: float) -> Any:
        def on_delivery(error: object, message: Any) -> None:
            assert error is None, error
            sent.append((message.partition(), message.offset(), when))

        return on_delivery

    producer = Producer({**producer_settings(settings.bootstrap_servers), "delivery.report.only.error": False})
    started = time.time()
    for number, (key, value) in enumerate(zip(messages.keys, messages.values, strict=True)):
        ahead = started + number / pace - time.time()
        if ahead > 0.005:
            producer.poll(ahead)
        now = time.time()
        callback = {"on_delivery": follow(now)} if number % _FOLLOWED == 0 else {}
        producer.produce(feed.topics.trades, value, key, timestamp=int(now * 1000), **callback)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush()
    return sent


def _live(feed: Feed, schema_id: int, pace: int, seconds: int) -> OutgoingMessages:
    """Trades whose exchange's times go on at the pace from now on; of today, or of the last day that was traded."""
    now = datetime.now(UTC)
    calendar = TradingCalendar.of(feed)
    day = calendar.previous_trading_day(calendar.trading_day_of(now) + timedelta(days=1))
    trades = simulate_day(feed, calendar.session(day), day, pace * seconds, 1, _SYMBOLS)
    times = int(now.timestamp() * 1e6) + pl.int_range(trades.height, eager=True) * (1_000_000 // pace)
    at_pace = trades.with_columns(exchange_timestamp_us=times, received_timestamp_us=times)
    return trade_messages(at_pace, feed, schema_id)


def _visible_at(settings: Settings, feed: Feed) -> dict[int, list[tuple[int, int, float]]]:
    """For each partition the ranges in order: first offset, end, and when they were committed."""
    found: dict[int, list[tuple[int, int, float]]] = {}
    table = (
        RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, TRADES).view().table
    )
    assert table is not None
    for snapshot in table.snapshots():
        ranges = "" if snapshot.summary is None else snapshot.summary.additional_properties.get(RANGES, "")
        for each in map(OffsetRange.parse, ranges.split()):
            found.setdefault(each.partition, []).append((each.start, each.end, snapshot.timestamp_ms / 1000))
    return {partition: sorted(spans) for partition, spans in found.items()}


def _rows(settings: Settings, feed: Feed) -> int:
    return (
        RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed.name, TRADES).view().rows
    )


def _count_by_sql(settings: Settings, feed: Feed) -> int:
    answer = k2(settings, "sql", f"select count(*) as n from {feed.name}.raw_trades", "--format", "json")
    return int(json.loads(answer)[0]["n"])


def _await(is_not_yet: Any, what: str) -> None:
    waiting = Retrying(retry=retry_if_result(bool), wait=wait_fixed(1), stop=stop_after_delay(_PATIENCE_SECONDS))
    print(f"  waiting for {what}", flush=True)
    waiting(is_not_yet)


if __name__ == "__main__":
    main()
