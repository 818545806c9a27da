"""Every process of a stack killed at random under load, and after it all every message once, in rows and in bars."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from free_ports import free_ports
from process_nemesis import ProcessNemesis
from recorded_producer import RecordedProducer
from repository import SHIPPED_FEEDS
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Supervisor
from k2_market.errors import K2Error
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.avro import TRADE, subject_of
from k2_market.simulation.market_simulator import simulate_day
from k2_platform.catch_up import left_to_do, local_instance
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.settings import Settings

MESSAGES_PER_SECOND = 5_000
DAYS = 5
SYMBOLS = 100
_CHUNK = 500
_PATIENCE_SECONDS = 1_200
_PORTS = ("kafka_port", "kafka_controller_port", "registry_port", "dagster_port", "code_server_port", "metrics_port")


@pytest.fixture
def settings(tmp_path: Path, java_artifacts: JavaArtifacts) -> Settings:
    java_artifacts.kafka_classpath(), java_artifacts.registry_directory()
    home, feeds = tmp_path / "k2", tmp_path / "feeds"
    home.mkdir(), feeds.mkdir()
    (home / "java").symlink_to(java_artifacts.directory)
    shipped = (SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")
    text = shipped.replace('name = "sim"', 'name = "chaos"').replace(".trades.sim", ".trades.chaos")
    (feeds / "chaos.toml").write_text(text.replace(".quotes.sim", ".quotes.chaos"), encoding="utf-8")
    ports: dict[str, Any] = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    return Settings(home=home, feeds_dir=feeds, **ports)


@pytest.fixture
def stack(settings: Settings) -> Iterator[LocalStack]:
    supervisor = Supervisor(settings.home / "run", settings.log_directory, until_parent_ends=True)
    made = LocalStack(settings.home, LocalStack.of(settings).services, supervisor)
    try:
        yield made
    finally:
        made.down(report=lambda line: None)


def days_of(feed: Feed) -> list[date]:
    calendar = TradingCalendar.of(feed)
    days = [calendar.previous_trading_day(calendar.trading_day_of(datetime.now(UTC)))]
    while len(days) < DAYS:
        days.insert(0, calendar.previous_trading_day(days[0]))
    return days


def messages_of(
    feed: Feed, days: list[date], trades_a_day: int, seed: int, schema_id: int
) -> Iterator[OutgoingMessages]:
    for day in days:
        trades = simulate_day(feed, TradingCalendar.of(feed).session(day), day, trades_a_day, seed, SYMBOLS)
        for start in range(0, trades.height, _CHUNK):
            yield trade_messages(trades.slice(start, _CHUNK), feed, schema_id)


def wait_until_nothing_is_left(settings: Settings, feed: Feed) -> None:
    iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    topics = KafkaTopics(settings.bootstrap_servers)
    patient = Retrying(retry=retry_if_result(bool), wait=wait_fixed(2), stop=stop_after_delay(_PATIENCE_SECONDS))

    with local_instance(settings) as instance:

        def left() -> str:
            try:
                return left_to_do(feed, TRADES, topics, iceberg, instance)
            except K2Error as error:
                return str(error)

        patient(left)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_every_process_killed_at_random_under_load_loses_and_doubles_nothing(
    settings: Settings, stack: LocalStack, tally: FaultTally, seeded, pytestconfig: pytest.Config
) -> None:
    seconds = pytestconfig.getoption("--chaos-seconds", 60)
    feed = load_feeds(settings.feed_directories)["chaos"]
    days = days_of(feed)
    nemesis = ProcessNemesis(stack, settings, seeded)
    stack.up(report=lambda line: None)
    with nemesis.keeping_alive():
        topic = feed.topics.trades
        ensure_topic(settings.bootstrap_servers, topic, feed.topics)
        registry = SchemaRegistry(settings.schema_registry_url)
        schema_id = registry.register(subject_of(topic), TRADE)
        producer = RecordedProducer(
            settings.bootstrap_servers, topic, {"delivery.timeout.ms": 1_000 * _PATIENCE_SECONDS}
        )
        batches = messages_of(feed, days, seconds * MESSAGES_PER_SECOND // DAYS, seeded.randrange(10**6), schema_id)
        load = threading.Thread(target=producer.send_evenly, args=[batches, MESSAGES_PER_SECOND])
        load.start()
        nemesis.kill_for(seconds)
        load.join()
        producer.flush(_PATIENCE_SECONDS)
        wait_until_nothing_is_left(settings, feed)
        tally.injections += len(nemesis.killed)
        tally.faults.update(f"K8 {name} killed" for name in nemesis.killed)
        unanswered = len(producer.refused)
        assert_nothing_lost_or_doubled(settings, feed.name, producer.acked, tally, days=days, unanswered=unanswered)
        verified = subprocess.run(
            [str(Path(sys.executable).with_name("k2")), "verify", "ledger", "--feed", feed.name],
            env=os.environ | settings.environment_variables(),
            capture_output=True,
            text=True,
            timeout=1_200,
            check=False,
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
