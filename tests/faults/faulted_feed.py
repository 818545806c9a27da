"""A feed of one test's own, to be faulted: its topic, its account of what was sent, and the homes that ingest it."""

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from recorded_producer import Acked, RecordedProducer
from repository import SHIPPED_FEEDS
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.ledger.ledger import Ledger
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.schemas.avro import TRADE, subject_of
from k2_market.simulation.market_simulator import simulate_day
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

NAME = "faulted"
PARTITIONS = 3
DAY = date(2026, 11, 20)
EARLIER_DAY = date(2026, 11, 19)
LATER = timedelta(minutes=30)
"""A clock this far ahead has let every failed run's ranges rest."""

_SHIPPED_FEEDS = SHIPPED_FEEDS


@dataclass(frozen=True)
class FaultedFeed:
    """A feed, and a home that takes it in.

    Attributes:
        settings: The home and where broker, registry and catalog are.
        feed: The feed.
        producer: Sends to its topic and keeps the account.
    """

    settings: Settings
    feed: Feed
    producer: RecordedProducer

    @classmethod
    def declared(
        cls, directory: Path, bootstrap: str, registry_url: str, changes: Mapping[str, str] | None = None
    ) -> "FaultedFeed":
        """Declare a feed like ``sim`` in a directory, with a topic that nothing else uses, and create the topic.

        Args:
            directory: Where declaration and home go.
            bootstrap: The broker.
            registry_url: The registry.
            changes: Texts of the shipped declaration, and what is put in their place.
        """
        topic = f"market.equities.trades.{NAME}-{uuid.uuid4().hex[:8]}"
        text = (_SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")
        text = text.replace('name = "sim"', f'name = "{NAME}"').replace("market.equities.trades.sim", topic)
        text = text.replace("[topics]", f"[topics]\npartitions = {PARTITIONS}")
        for before, after in (changes or {}).items():
            assert before in text
            text = text.replace(before, after)
        feeds_directory = directory / "feeds"
        feeds_directory.mkdir(parents=True)
        (feeds_directory / f"{NAME}.toml").write_text(text, encoding="utf-8")
        feed = load_feeds([feeds_directory])[NAME]
        ensure_topic(bootstrap, topic, feed.topics)
        topics = KafkaTopics(bootstrap)
        # A broker may answer for a moment as if it did not know what it has just made.
        Retrying(retry=retry_if_result(lambda state: state is None), stop=stop_after_delay(30), wait=wait_fixed(0.1))(
            topics.state, topic
        )
        settings = Settings(
            home=directory / "k2", feeds_dir=feeds_directory, kafka_bootstrap=bootstrap, registry_url=registry_url
        )
        return cls(settings, feed, RecordedProducer(bootstrap, topic))

    @property
    def acked(self) -> Sequence[Acked]:
        """What the broker acknowledged."""
        return self.producer.acked

    def with_settings(self, **changes: Any) -> "FaultedFeed":
        """The same feed, taken in under other settings."""
        return replace(self, settings=self.settings.model_copy(update=changes))

    def schema_id(self) -> int:
        """The registry's id of today's trade schema."""
        registry = SchemaRegistry(self.settings.schema_registry_url)
        return registry.register(subject_of(self.feed.topics.trades), TRADE)

    def messages(self, trades: int, day: date = DAY, seed: int = 1) -> OutgoingMessages:
        """A simulated day's messages, not sent."""
        return trade_messages(self.trades(trades, day, seed), self.feed, self.schema_id())

    def trades(self, trades: int, day: date = DAY, seed: int = 1) -> pl.DataFrame:
        """A simulated day's trades, ``SOURCE_TRADE``."""
        session = TradingCalendar.of(self.feed).session(day)
        return simulate_day(self.feed, session, day, trades, seed, 10)

    def send(self, trades: int, day: date = DAY, seed: int = 1) -> None:
        """Send a simulated day and wait for the broker's word on all of it."""
        self.producer.send(self.messages(trades, day, seed))
        self.producer.flush()

    def catch_up(self, ahead: timedelta = timedelta()) -> CaughtUp:
        """Run what is pending, in this process, by a clock that may be ahead."""
        with local_instance(self.settings) as instance:
            return catch_up_feed(self.settings, self.feed, TRADES, instance, lambda: datetime.now(UTC) + ahead)

    def catch_up_to_the_end(self) -> None:
        """Run what is pending once a fault has ended: nothing may fail, and nothing may stay pending."""
        done = self.catch_up(LATER)
        assert done.failed == 0, self.failures()
        assert self.lag() == 0, done.waiting

    def k2(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A ``k2`` command as a process of its own."""
        return self.run(k2_command(*arguments), environment)

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A process with this feed's settings in its environment."""
        return subprocess.run(
            command,
            env=os.environ | self.settings.environment_variables() | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def table(self) -> RawTable:
        """The raw table, by a catalog opened anew."""
        return RawTable(open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse), NAME, TRADES)

    def ledger(self) -> Ledger:
        """The ledger."""
        return self.table().ledger()

    def days(self) -> list[date]:
        """The trading days that have raw rows."""
        table = self.table().view().table
        assert table is not None
        return sorted(set(table.scan(selected_fields=("trade_date",)).to_arrow()["trade_date"].to_pylist()))

    def lag(self) -> int:
        """Messages that the topic holds and the ledger lacks."""
        topic = KafkaTopics(self.settings.bootstrap_servers).state(self.feed.topics.trades)
        assert topic is not None
        return len(topic.readable - self.ledger().covered)

    def failures(self) -> list[str]:
        """What each failed run's step said, the latest run first."""
        with local_instance(self.settings) as instance:
            runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
            return [failure_of(run.run_id, instance) for run in runs]


def assert_whole(faulted: FaultedFeed, tally: FaultTally, *names: str) -> None:
    """After a fault: all comes without a person's doing, and the checker finds nothing wrong in any table.

    Args:
        faulted: The feed.
        tally: Counts what was found.
        names: The faults, by their names in the catalogue.
    """
    faulted.catch_up_to_the_end()
    assert_nothing_lost_or_doubled(faulted.settings, NAME, faulted.acked, tally, days=faulted.days())
    tally.injected(*names)


def k2_command(*arguments: str) -> list[str]:
    """How a ``k2`` command is started."""
    return [sys.executable, "-c", "from k2_cli.main import app; app()", *arguments]


def failure_of(run_id: str, instance: dg.DagsterInstance) -> str:
    """The errors of a run's failed steps, causes after them, or what its end was reported with."""
    told = []
    for record in instance.get_records_for_run(run_id).records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None:
                if error.cls_name != "DagsterExecutionStepExecutionError":
                    told.append(error.message.strip())
                error = error.cause
        elif event is not None and event.event_type is dg.DagsterEventType.RUN_FAILURE:
            told.append(event.message or "")
    return "\n".join(told)
