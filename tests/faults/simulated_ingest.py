"""K2's ingestion on simulated doors: the sensor that plans and the runs that carry out, as simulated processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache, partial
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import dagster as dg
import pyarrow as pa
from pyiceberg.table.metadata import TableMetadata
from simulated_broker import Harm, SimulatedBroker, SimulatedReader, SimulatedTopics
from simulated_catalog import SimulatedCatalog
from simulated_dagster import Run, SimulatedDagster
from simulated_messages import EPOCH, FEED, Registry
from simulated_surroundings import simulated_surroundings
from simulated_turns import Process, Turns
from simulated_weather import Weather

from k2_assets.ingestion import Ingestion
from k2_assets.names import ingest_job_name, ingest_op_name
from k2_assets.raw_table import carry_out, pending_of_day
from k2_assets.records.ingest_config import IngestConfig, claims_of
from k2_assets.records.ingest_runs import failed_ingests
from k2_assets.records.run_failure import begun_tags, failure_tags
from k2_market.errors import K2Error, LedgerError
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES
from k2_market.messages import block_decoder
from k2_market.messages.batch import MessageBatch
from k2_market.messages.block_decoder import DayWindow
from k2_market.plans.ingest_claims import IngestClaims
from k2_resources.iceberg import catalog as iceberg_catalog
from k2_resources.iceberg.catalog import ensure_table
from k2_resources.kafka.schema_registry import RegistryUnavailable
from k2_resources.raw.claim_lookup import verified_claims
from k2_resources.raw.table import RawTable
from k2_sensors.kafka_sensor import INTERVAL_SECONDS, next_ingest

RAW_TRADES = f"{FEED.name}.raw_trades"
JOB = ingest_job_name(FEED.name, TRADES)
HANGS_SECONDS = 60.0
"""After how long the simulated daemon ends a run that hangs, to keep schedules short."""
WINDOW = DayWindow(TradingCalendar.of(FEED), FEED.start_date, EPOCH.date() + timedelta(days=1))


@cache
def _new_table() -> TableMetadata:
    """A raw table as K2 creates it; made in a world of its own, so that no schedule depends on who came first."""
    turns = Turns(Random(0))
    catalog = SimulatedCatalog(turns, Weather(turns.random, {}))
    with simulated_surroundings(turns, EPOCH.timestamp()):
        return ensure_table(catalog, FEED.name, "raw_trades", tables_of(KINDS)["raw_trades"]).metadata


@dataclass
class SimulatedIngest:
    """The processes of one feed's ingestion.

    Attributes:
        reader: Makes a run's reader; a test puts one here that is wrong.
        waits: Why the sensor requested nothing at its last look, and what had changed by then.
        ends: How runs ended that failed, and what the sensor found wrong with the ledger: who, and the error.
        running: For each run's process its run.
    """

    turns: Turns
    broker: SimulatedBroker
    catalog: SimulatedCatalog
    dagster: SimulatedDagster
    reader: Callable[[SimulatedBroker], SimulatedReader] = SimulatedReader
    registry_down_until: float = 0.0
    waits: tuple[str, int] = ("", -1)
    ends: list[tuple[str, Exception]] = field(default_factory=list)
    running: dict[Process, Run] = field(default_factory=dict)
    sensors: list[Process] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """How often anything changed that the sensor looks at."""
        return self.broker.changes + self.catalog.changes + self.dagster.changes

    def create_table(self) -> None:
        """Have the raw table there already, without the cost of creating it."""
        properties = dict(iceberg_catalog._PROPERTIES)
        self.catalog.adopt(RAW_TRADES, _new_table().model_copy(update={"properties": properties}))

    def start_sensor(self) -> Process:
        """The daemon's sensor, which looks every few seconds."""
        process = self.turns.start(f"sensor-{len(self.sensors) + 1}", self._sense_for_ever)
        self.sensors.append(process)
        return process

    def start_run(self, run: Run) -> Process:
        """A process for a run, which may be one that has a process already."""
        run.status = dg.DagsterRunStatus.STARTED
        times = sum(each is run for each in self.running.values())
        name = f"{run.run_id}.{times + 1}" if times else run.run_id
        process = self.turns.start(name, lambda: self._carry_out(run))
        self.running[process] = run
        return process

    def request_day(self, day: date) -> Run:
        """A run as someone starts it from the UI: it plans its own."""
        return self.dagster.add(JOB, {}, day.isoformat(), {})

    def sense(self) -> None:
        """Look once, as the sensor does."""
        seen = self.changes
        now = EPOCH + timedelta(seconds=self.turns.now)
        try:
            found = next_ingest(FEED, TRADES, SimulatedTopics(self.broker), self._iceberg(), self.dagster, now)  # type: ignore[arg-type]
        except K2Error as error:
            if isinstance(error, LedgerError):
                self.ends.append(("sensor", error))
            self.turns.tell("sensor", f"fails: {error}")
            return
        if isinstance(found, dg.SkipReason):
            self.waits = str(found.skip_message), seen
            return
        self.turns.tell("sensor", f"plans {found.run_config['ops'][ingest_op_name(FEED.name, TRADES)]['config']}")
        self.dagster.request(JOB, found)

    def _sense_for_ever(self) -> None:
        while True:
            self.sense()
            self.turns.sleep(INTERVAL_SECONDS)

    def _carry_out(self, run: Run) -> None:
        try:
            versions = self._ingest(run)
        except Exception as error:
            self.ends.append((run.run_id, error))
            run.tags |= failure_tags(run.run_id, error)
            self.turns.step(f"fails: {type(error).__name__}: {error}")
            self.dagster.end(run, dg.DagsterRunStatus.FAILURE)
            return
        self.turns.step("reports its days")
        self.dagster.report(versions)
        self.turns.step("ends well")
        self.dagster.end(run, dg.DagsterRunStatus.SUCCESS)

    def _ingest(self, run: Run) -> dict[date, int]:
        """What the asset ``raw_trades`` does between Dagster's calls."""
        topics, table = SimulatedTopics(self.broker), RawTable(self.catalog, FEED.name, TRADES)
        ingestion = Ingestion(
            feed=FEED.name,
            topic=self.broker.name,
            reader=self.reader(self.broker),
            registry=Registry(self._registry_or_not),  # type: ignore[arg-type]
            table=table,
            window=WINDOW,
            published_days=frozenset(),
            run_id=run.run_id,
        )
        calendar, now = TradingCalendar.of(FEED), EPOCH + timedelta(seconds=self.turns.now)
        if not run.run_config:
            day = date.fromisoformat(run.partition)
            config = IngestConfig()
            claims = IngestClaims("", pending_of_day(FEED.topics.trades, calendar, topics, table.ledger(), day))
        else:
            config = IngestConfig(**run.run_config["ops"][ingest_op_name(FEED.name, TRADES)]["config"])
            failed = partial(failed_ingests, self.dagster, FEED.name, TRADES, now)
            claims = verified_claims(claims_of(config), ingestion.reader, ingestion.registry, table, calendar, failed)
        run.tags |= begun_tags(run.run_id)
        report = carry_out(ingestion, claims, config.careful)
        versions = table.view().day_versions
        return {day: versions[day] for day in report.by_day if day in versions}

    @contextmanager
    def harmed_by_messages(self) -> Iterator[None]:
        """Have decoding suffer from the messages that do harm, for as long as the block lasts."""
        decode = block_decoder.decode

        def decode_or_die(batch: MessageBatch, *how: Any) -> pa.Table:
            values = set(batch.values)
            if Harm.KILLS_DECODER.value.encode() in values:
                self.turns.die("a message that it decodes")
            if Harm.HANGS_DECODER.value.encode() in values:
                self.turns.step("hangs at a message", seconds=HANGS_SECONDS)
                self.turns.die("the daemon, since it took too long")
            if Harm.FAILS_RUN.value.encode() in values:
                raise RuntimeError("nobody foresaw this")
            return decode(batch, *how)

        with patch.object(block_decoder, "decode", decode_or_die):
            yield

    def _iceberg(self) -> Any:
        return SimpleNamespace(raw_table=lambda feed, kind: RawTable(self.catalog, feed, kind))

    def _registry_or_not(self) -> None:
        self.turns.step("asks the schema registry")
        if self.turns.now < self.registry_down_until:
            raise RegistryUnavailable("simulated registry is down")
