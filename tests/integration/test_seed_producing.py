"""That messages are confirmed one by one and in numbers (#009, #010), with the producer's settings.

How quickly, and how many a second, is for ``benchmarks/produce_latency.py`` to say.
"""

from datetime import UTC, date, datetime
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import Feed, Topics, load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.kinds.trades import TRADES
from k2_market.messages.outgoing import trade_messages
from k2_market.simulation.market_simulator import simulate_day
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.trade_producer import TradeProducer, producer_settings
from k2_resources.settings import Settings

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
DAY = date(2026, 11, 20)
SESSION = Session(datetime(2026, 11, 20, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 21, 0, tzinfo=UTC))


def own_feed(settings: Settings) -> Feed:
    """The simulated feed with a topic of the test's own, which is there."""
    feed = SIM.model_copy(update={"topics": Topics(trades=f"market.equities.trades.{uuid4().hex}")})
    ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
    return feed


def test_a_message_is_confirmed_though_none_follows_it_that_would_fill_its_batch(stack_settings: Settings) -> None:
    feed = own_feed(stack_settings)
    messages = trade_messages(simulate_day(feed, SESSION, DAY, 100, seed=7), feed, schema_id=1)
    confirmed: list[int | None] = []

    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None
        confirmed.append(message.offset())

    settings = producer_settings(stack_settings.bootstrap_servers)
    producer = Producer({**settings, "delivery.report.only.error": False, "on_delivery": note})
    for number, (key, value) in enumerate(zip(messages.keys, messages.values, strict=True), start=1):
        producer.produce(feed.topics.trades, value, key)
        while len(confirmed) < number:  # without a flush, which would end the wait for a full batch
            assert producer.poll(30), f"message {number} was not confirmed within 30 s"

    assert len(confirmed) == 100


def test_an_exchanges_thousand_symbols_go_through_and_are_all_confirmed(stack_settings: Settings) -> None:
    feed = own_feed(stack_settings)
    day = simulate_day(feed, SESSION, DAY, 60_000, seed=7, symbols=1_000)
    registry = SchemaRegistry(stack_settings.schema_registry_url)
    producer = TradeProducer(stack_settings.bootstrap_servers, registry, feed, TRADES)

    sent = producer.send_trades(day, "load-test")

    assert sent.messages == 60_000
    assert sum(high - low for low, high in kept(stack_settings, feed)) >= 60_000


def kept(settings: Settings, feed: Feed) -> list[tuple[int, int]]:
    """The first and the next offset of each partition of the feed's topic."""
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "counts"})
    try:
        partitions = consumer.list_topics(feed.topics.trades).topics[feed.topics.trades].partitions
        return [consumer.get_watermark_offsets(TopicPartition(feed.topics.trades, each)) for each in partitions]
    finally:
        consumer.close()
