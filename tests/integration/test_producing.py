"""Producing to a real broker and registry: nothing lost, nothing twice, order kept, nothing sent of a wrong load."""

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from fastavro import parse_schema, schemaless_reader
from free_ports import free_ports
from repository import SHIPPED_FEEDS
from typer.testing import CliRunner

from k2_cli.main import app
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_market.errors import SourceFileError
from k2_market.feeds.feed import Feed, Topics, load_feeds
from k2_market.feeds.trading_calendar import Session
from k2_market.kinds.trades import TRADES
from k2_market.messages.framing import HEADER_BYTES
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.avro import TRADE
from k2_market.simulation.market_simulator import simulate_day
from k2_market.simulation.simulated_faults import Fault
from k2_market.sources.format import SourceFormat
from k2_platform.producing import produce_files, produce_simulated_day
from k2_resources.kafka.schema_registry import SchemaRefused, SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.kafka.trade_producer import TradeProducer
from k2_resources.logs.structured_logging import configure_logging
from k2_resources.settings import Settings

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
DAY = date(2026, 11, 20)
SESSION = Session(datetime(2026, 11, 20, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 21, 0, tzinfo=UTC))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCHEMA = parse_schema(TRADE)


@dataclass(frozen=True)
class Received:
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp_ms: int
    headers: list[tuple[str, bytes]]

    @property
    def trade(self) -> dict[str, Any]:
        return schemaless_reader(io.BytesIO(self.value[HEADER_BYTES:]), SCHEMA)


def own_feed(partitions: int = 6) -> Feed:
    """The simulated feed, with a topic of the test's own."""
    topics = Topics(trades=f"market.equities.trades.{uuid4().hex}", partitions=partitions)
    return SIM.model_copy(update={"topics": topics})


def everything_in(bootstrap_servers: str, topic: str) -> list[Received]:
    state = KafkaTopics(bootstrap_servers).state(topic)
    if state is None:
        return []
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, each.partition, 0) for each in state.partitions])
    received, unread = [], len(state.partitions)
    while unread:
        message = consumer.poll(30)
        assert message is not None
        if message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF
            unread -= 1
            continue
        timestamp_ms, headers = message.timestamp()[1], message.headers() or []
        received.append(
            Received(message.partition(), message.offset(), message.key(), message.value(), timestamp_ms, headers)
        )
    consumer.close()
    return sorted(received, key=lambda each: (each.partition, each.offset))


def sent_day(settings: Settings, feed: Feed, trades: int = 10_000) -> pl.DataFrame:
    day = simulate_day(feed, SESSION, DAY, trades, seed=7)
    ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
    registry = SchemaRegistry(settings.schema_registry_url)
    sent = TradeProducer(settings.bootstrap_servers, registry, feed, TRADES).send_trades(day, "id-of-this")
    assert sent.messages == trades
    return day


def test_ten_thousand_messages_are_produced_and_counted_and_none_is_there_twice(stack_settings):
    feed = own_feed()

    day = sent_day(stack_settings, feed)

    received = everything_in(stack_settings.bootstrap_servers, feed.topics.trades)
    assert len(received) == 10_000
    assert len({each.trade["message_id"] for each in received}) == 10_000
    told = set(day.select("symbol", "sequence_number").rows())
    assert {(each.trade["symbol"], each.trade["sequence_number"]) for each in received} == told


def test_a_symbol_is_always_in_one_partition_and_its_trades_are_in_order(stack_settings):
    feed = own_feed()

    sent_day(stack_settings, feed)

    partitions: dict[bytes, set[int]] = {}
    numbers: dict[bytes, list[int]] = {}
    for each in everything_in(stack_settings.bootstrap_servers, feed.topics.trades):
        partitions.setdefault(each.key, set()).add(each.partition)
        numbers.setdefault(each.key, []).append(each.trade["sequence_number"])
    assert all(len(found) == 1 for found in partitions.values())
    assert len(set.union(*partitions.values())) == 6
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def test_a_second_load_goes_to_the_same_partitions(stack_settings):
    feed = own_feed()

    for _ in range(2):
        sent_day(stack_settings, feed, trades=1_000)

    received = everything_in(stack_settings.bootstrap_servers, feed.topics.trades)
    assert len(received) == 2_000
    symbols = {each.key for each in received}
    assert len({(each.key, each.partition) for each in received}) == len(symbols)


def test_key_record_time_and_correlation_id_of_a_message(stack_settings):
    feed = own_feed()

    sent_day(stack_settings, feed, trades=100)

    for each in everything_in(stack_settings.bootstrap_servers, feed.topics.trades):
        assert each.key.decode() == each.trade["symbol"]
        assert each.timestamp_ms == each.trade["exchange_timestamp"].timestamp() * 1_000 // 1
        assert each.headers == [("correlation_id", b"id-of-this")]


def test_a_topic_is_created_as_the_feed_says_and_kept_by_size(kafka):
    topics = Topics(trades=f"t.{uuid4().hex}", partitions=30, retention_bytes=10**9)

    created = ensure_topic(kafka.bootstrap_servers, topics.trades, topics)
    again = ensure_topic(kafka.bootstrap_servers, topics.trades, topics)

    assert (created.created, created.partitions) == (True, 30)
    assert (again.created, again.partitions, again.differences) == (False, 30, ())
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topics.trades)]).values()
    settings = {name: entry.value for name, entry in future.result().items()}
    assert settings["retention.ms"] == "-1"
    assert settings["retention.bytes"] == "1000000000"
    assert settings["message.timestamp.type"] == "CreateTime"


def test_a_topic_that_is_not_as_the_feed_says_is_reported_and_left_as_it_is(kafka):
    topics = Topics(trades=f"t.{uuid4().hex}", partitions=3)
    ensure_topic(kafka.bootstrap_servers, topics.trades, topics)

    other = Topics(trades=topics.trades, partitions=5, retention_bytes=7)
    found = ensure_topic(kafka.bootstrap_servers, topics.trades, other)

    assert (found.created, found.partitions) == (False, 3)
    assert found.differences == (
        f"topic {topics.trades} has 3 partitions, its feed's file says 5",
        f"topic {topics.trades} has retention.bytes=-1, its feed's file asks for 7",
    )


class Sending:
    """A day that a thread sends; it stops half-way, until it is told that the broker is dead."""

    def __init__(self, bootstrap_servers: str, registry_url: str, session: Session) -> None:
        self.feed = own_feed()
        self.half_way, self.broker_is_dead = threading.Event(), threading.Event()
        self.outcome: list[object] = []
        self._bootstrap_servers, self._registry = bootstrap_servers, SchemaRegistry(registry_url)
        self._day = simulate_day(self.feed, session, session.open.date(), 40_000, seed=7)
        self.thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        try:
            producer = TradeProducer(self._bootstrap_servers, self._registry, self.feed, TRADES)
            self.outcome.append(producer.send(self._batches(producer.schema_id), self._day.height, "id-1").messages)
        except Exception as error:
            self.outcome.append(error)
            self.half_way.set()

    def _batches(self, schema_id: int) -> Iterator[OutgoingMessages]:
        for start in range(0, self._day.height, 5_000):
            if start == self._day.height // 2:
                self.half_way.set()
                assert self.broker_is_dead.wait(60)
            yield trade_messages(self._day.slice(start, 5_000), self.feed, schema_id)


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_in_the_middle_of_a_load_loses_and_doubles_nothing(
    tmp_path: Path, java_artifacts: JavaArtifacts, registry: Any
) -> None:
    port, controller_port = free_ports(2)
    broker = LocalKafka(tmp_path / "kafka", port, controller_port, java_artifacts, heap_mebibytes=256)
    supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
    now = datetime.now(UTC)
    today = Sending(broker.bootstrap_servers, registry.url, Session(now - timedelta(hours=3), now - timedelta(hours=1)))
    long_ago = Sending(broker.bootstrap_servers, registry.url, SESSION)

    with supervisor.running(broker) as status:
        for each in (today, long_ago):
            ensure_topic(broker.bootstrap_servers, each.feed.topics.trades, each.feed.topics)
            each.thread.start()
        assert all(each.half_way.wait(60) for each in (today, long_ago))
        process = psutil.Process(status.pid)
        process.kill()
        process.wait(30)
        for each in (today, long_ago):
            each.broker_is_dead.set()
        supervisor.start(broker)
        for each in (today, long_ago):
            each.thread.join(150)
        assert (today.outcome, long_ago.outcome) == ([40_000], [40_000])
        received, received_of_old = (
            everything_in(broker.bootstrap_servers, each.feed.topics.trades) for each in (today, long_ago)
        )

    # The broker remembers what it has by record time: of an old day, messages under way may be there twice.
    assert len(received) == 40_000
    for messages in (received, received_of_old):
        assert len({each.trade["message_id"] for each in messages}) == 40_000
    last: dict[bytes, int] = {}
    for each in received:
        assert each.trade["sequence_number"] == last.get(each.key, 0) + 1
        last[each.key] = each.trade["sequence_number"]


def test_the_registry_refuses_a_schema_that_could_not_read_the_messages_of_before(registry):
    subject, door = f"{uuid4().hex}-value", SchemaRegistry(registry.url)
    schema_id = door.register(subject, TRADE)

    without_default = {"name": "venue", "type": "string"}
    with pytest.raises(SchemaRefused, match=subject):
        door.register(subject, {**TRADE, "fields": [*TRADE["fields"], without_default]})
    with_default = {"name": "venue", "type": ["null", "string"], "default": None}
    newer_id = door.register(subject, {**TRADE, "fields": [*TRADE["fields"], with_default]})

    assert newer_id != schema_id
    assert door.register(subject, TRADE) == schema_id
    assert SchemaRegistry(registry.url).writer_schemas([schema_id, 2**31 - 1]) == {schema_id: TRADE}


HEADER = "symbol,exchange_timestamp,price,quantity"


def test_a_load_with_one_wrong_row_sends_nothing_and_makes_no_topic(stack_settings, tmp_path):
    feed = own_feed()
    (tmp_path / "a.csv").write_text(f"{HEADER}\nBHP,2026-11-20T15:00:00Z,1,1\n")
    ahead = (NOW + timedelta(hours=2)).isoformat()
    (tmp_path / "b.csv").write_text(f"{HEADER}\nBHP,2026-11-20T15:00:01Z,1,1\nBHP,{ahead},1,1\n")

    with pytest.raises(SourceFileError, match=r"b.csv, row 3: .*nothing was sent"):
        produce_files(stack_settings, feed, [str(tmp_path)], SourceFormat.CSV, NOW)

    assert KafkaTopics(stack_settings.bootstrap_servers).state(feed.topics.trades) is None


def test_a_record_of_the_last_hour_to_come_is_taken_by_the_broker(stack_settings, tmp_path):
    feed, now = own_feed(), datetime.now(UTC)
    (tmp_path / "a.csv").write_text(f"{HEADER}\nBHP,{(now + timedelta(minutes=59)).isoformat()},1,1\n")

    produced = produce_files(stack_settings, feed, [str(tmp_path / "a.csv")], SourceFormat.CSV, now)

    assert produced.messages == 1


def test_the_real_files_of_the_exchange_are_sent_to_the_last_row(stack_settings, market_data):
    topics = own_feed(partitions=4).topics
    feed = load_feeds([SHIPPED_FEEDS])["asx"].model_copy(update={"topics": topics})
    directory = market_data / "asx-2014-03" / "trades"
    small = [str(directory / "7181.csv.gz"), str(directory / "3153.csv.gz")]

    produced = produce_files(stack_settings, feed, small, SourceFormat.ASX_TICKDATA, NOW)

    assert [count for _, count in produced.files] == [232, 11]
    received = everything_in(stack_settings.bootstrap_servers, topics.trades)
    assert len(received) == produced.messages == 243
    assert {each.key for each in received} == {b"DVN", b"MWR"}


def test_a_simulated_day_is_the_same_bytes_again_with_the_same_faults(stack_settings):
    def simulated(feed: Feed) -> tuple[Any, dict[bytes, list[bytes | None]]]:
        produced = produce_simulated_day(stack_settings, feed, DAY, 2_000, 7, 10, list(Fault), NOW)
        values: dict[bytes, list[bytes | None]] = {}
        for each in everything_in(stack_settings.bootstrap_servers, feed.topics.trades):
            values.setdefault(each.key, []).append(each.value)
        return produced, values

    (first, first_values), (second, second_values) = simulated(own_feed()), simulated(own_feed())

    assert first_values == second_values
    assert first.planted == second.planted
    assert first.messages == sum(map(len, first_values.values()))
    assert sum(value is None for values in first_values.values() for value in values) == 2


def test_the_correlation_id_of_a_load_is_in_its_messages_and_its_log_lines(stack_settings, tmp_path):
    feed = own_feed()
    configure_logging("load", stack_settings)
    (tmp_path / "a.csv").write_text(f"{HEADER}\nBHP,2026-11-20T15:00:00Z,1,1\n")

    produced = produce_files(stack_settings, feed, [str(tmp_path / "a.csv")], SourceFormat.CSV, NOW)

    (message,) = everything_in(stack_settings.bootstrap_servers, feed.topics.trades)
    assert message.headers == [("correlation_id", produced.correlation_id.encode())]
    log = (stack_settings.log_directory / "k2.jsonl").read_text().splitlines()
    lines = {
        line["message"]: line for line in map(json.loads, log) if line["correlation_id"] == produced.correlation_id
    }
    assert {"produce started", "produce completed"} <= lines.keys()
    told = {"feed": "sim", "topic": feed.topics.trades, "messages": 1}
    assert told.items() <= lines["produce completed"].items()


def test_the_commands_say_what_was_sent_as_json(stack_settings, tmp_path, monkeypatch):
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    topic = f"market.equities.trades.{uuid4().hex}"
    text = (SHIPPED_FEEDS / "sim.toml").read_text()
    text = text.replace('name = "sim"', 'name = "mine"').replace("market.equities.trades.sim", topic)
    (feeds / "mine.toml").write_text(text)
    for name, value in {
        "K2_HOME": tmp_path / "home",
        "K2_FEEDS_DIR": feeds,
        "K2_KAFKA_BOOTSTRAP": stack_settings.bootstrap_servers,
        "K2_REGISTRY_URL": stack_settings.schema_registry_url,
    }.items():
        monkeypatch.setenv(name, str(value))
    (tmp_path / "a.csv").write_text(f"{HEADER}\nBHP,2026-11-20T15:00:00Z,1,1\n")

    loaded = CliRunner().invoke(app, ["load", "--feed", "mine", "--json", str(tmp_path / "a.csv")])
    simulate = ["simulate", "--feed", "mine", "--date", "2026-11-20", "--trades", "1000", "--faults", "gaps", "--json"]
    simulated = CliRunner().invoke(app, simulate)
    refused = CliRunner().invoke(app, ["load", "--feed", "mine", str(tmp_path / "nothing.csv")])

    told = json.loads(loaded.stdout)
    assert (told["topic"], told["partitions"], told["messages"]) == (topic, 30, 1)
    planted = json.loads(simulated.stdout)
    gaps = sum(fault["count"] for fault in planted["planted"])
    assert planted["messages"] == 1_000 - gaps < 1_000
    assert refused.exit_code == 1
    assert "nothing.csv: found nothing" in refused.stderr
