"""How long a message takes from ``produce`` to the broker's confirmation (#010), and how many a load sends a second.

Run beside a local stack: ``k2 up --only kafka,registry``, then ``python benchmarks/produce_latency.py``.

The latency is measured at a live feed's pace, 10,000 messages a second, each with a delivery callback, under the
settings that K2 produces with; the throughput as ``k2 load`` sends. A topic of its own is used and deleted again.
"""

import argparse
import json
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from k2_market.feeds.feed import Topics, load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.kinds.trades import TRADES
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.simulation.market_simulator import simulate_day
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.trade_producer import TradeProducer, producer_settings
from k2_resources.settings import Settings

MESSAGES_PER_SECOND = 10_000
WARM_UP_SECONDS = 1.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=int, default=10, help="how long the latency is measured")
    arguments.add_argument("--messages", type=int, default=500_000, help="how many the throughput is measured with")
    chosen = arguments.parse_args()

    settings = Settings.load()
    topics = Topics(trades=f"k2.benchmark.{uuid4().hex}", partitions=30)
    feed = load_feeds(settings.feed_directories)["sim"].model_copy(update={"topics": topics})
    ensure_topic(settings.bootstrap_servers, topics.trades, topics)
    registry = SchemaRegistry(settings.schema_registry_url)
    try:
        now = datetime.now(UTC)
        session = Session(now - timedelta(hours=7), now - timedelta(minutes=30))
        day = simulate_day(feed, session, now.date(), chosen.messages, seed=1)
        sent = TradeProducer(settings.bootstrap_servers, registry, feed, TRADES).send_trades(day, "bench")
        messages = trade_messages(day.head(int(MESSAGES_PER_SECOND * (chosen.seconds + WARM_UP_SECONDS))), feed, 1)
        latencies_ms = 1_000 * latencies_seconds(settings.bootstrap_servers, topics.trades, messages)
    finally:
        admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
        admin.delete_topics([topics.trades])[topics.trades].result()
    p50, p99, worst = np.quantile(latencies_ms, [0.5, 0.99, 1.0])
    figures = {
        "load_messages_per_second": round(sent.messages / sent.seconds),
        "load_messages": sent.messages,
        "latency_messages": len(latencies_ms),
        "latency_pace_per_second": MESSAGES_PER_SECOND,
        "latency_p50_ms": round(float(p50), 2),
        "latency_p99_ms": round(float(p99), 2),
        "latency_max_ms": round(float(worst), 2),
    }
    print(json.dumps(figures, indent=2))


def latencies_seconds(bootstrap_servers: str, topic: str, messages: OutgoingMessages) -> "np.ndarray":
    """The time of each message from its handing over to its confirmation, those of the first second left out."""
    confirmed = np.full(len(messages), np.nan)
    handed_over = np.full(len(messages), np.nan)
    producer = Producer({**producer_settings(bootstrap_servers), "delivery.report.only.error": False})

    def note(place: int) -> object:
        def on_delivery(error: object, _message: object) -> None:
            assert error is None, error
            confirmed[place] = time.perf_counter()

        return on_delivery

    started = time.perf_counter()
    for place, (key, value, timestamp_ms) in enumerate(
        zip(messages.keys, messages.values, messages.timestamps_ms, strict=True)
    ):
        due = started + place / MESSAGES_PER_SECOND
        while time.perf_counter() < due:
            producer.poll(0.0005)
        handed_over[place] = time.perf_counter()
        producer.produce(topic, value, key, timestamp=timestamp_ms, on_delivery=note(place))
        producer.poll(0)
    producer.flush()
    return (confirmed - handed_over)[int(MESSAGES_PER_SECOND * WARM_UP_SECONDS) :]


if __name__ == "__main__":
    main()
