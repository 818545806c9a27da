"""Passes over what is pending of a feed, by K2's own plans and jobs; ingestion alone takes a second or two."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
from own_feeds import OwnFeed

from k2_assets.names import ingest_job_name
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.plans.ingest_plan import LONGEST_BACKOFF
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.settings import Settings
from k2_sensors.kafka_sensor import next_ingest
from k2_sensors.run_watch import end_dead_runs

_MOST_RUNS = 20
"""Runs of one pass; a plan that never ends is an error."""


@dataclass
class Ingested:
    """What a pass did.

    Attributes:
        runs: Ingest runs that succeeded.
        errors: What went wrong in each run that failed.
        waiting: Why no further run was planned.
    """

    runs: int = 0
    errors: list[str] = field(default_factory=list)
    waiting: str = ""


def planned(own: OwnFeed, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """The ingest run that K2 would request now, once failed runs have rested for as long as any rests."""
    settings = own.settings
    iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    now = datetime.now(UTC) + LONGEST_BACKOFF + timedelta(minutes=1)
    return next_ingest(own.feed, TRADES, KafkaTopics(settings.bootstrap_servers), iceberg, instance, now)


def carried_out(own: OwnFeed, request: dg.RunRequest, instance: dg.DagsterInstance) -> list[str]:
    """Run what was planned; what went wrong in it."""
    job = build_defs(settings=own.settings, feeds={own.feed.name: own.feed}).resolve_job_def(
        ingest_job_name(own.feed.name, TRADES)
    )
    config: Mapping[str, object] = request.run_config or {}
    # The plan's clock is ahead of Dagster's, which has no partition yet for a day that begins in between.
    calendar = TradingCalendar.of(own.feed)
    today = calendar.reporting_session(calendar.trading_day_of(datetime.now(UTC))).isoformat()
    result = job.execute_in_process(
        instance=instance,
        partition_key=min(str(request.partition_key), today),
        run_config=dict(config),
        tags=dict(request.tags),
        raise_on_error=False,
    )
    failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return [(error.cause or error).message.strip() for error in failures if error is not None]


def ingest(own: OwnFeed) -> Ingested:
    """Ingest until K2's plan asks for nothing more, or a run fails."""
    done = Ingested()
    with local_instance(own.settings) as instance:
        end_dead_runs(instance)
        for _ in range(_MOST_RUNS):
            request = planned(own, instance)
            if isinstance(request, dg.SkipReason):
                done.waiting = str(request.skip_message)
                return done
            done.errors = carried_out(own, request, instance)
            if done.errors:
                return done
            done.runs += 1
    raise AssertionError(f"{own.feed.name}: still something to ingest after {_MOST_RUNS} runs")


def reaches_no_lag(own: OwnFeed) -> Ingested:
    """Ingest, and see that nothing is pending after it; a run that fails is tried once more."""
    done = ingest(own)
    if done.errors:
        done = ingest(own)
    pending = own.topic().readable - own.ledger().covered
    assert not pending, f"{len(pending)} messages still pending: {done}"
    return done


def catch_up(own: OwnFeed) -> CaughtUp:
    """Ingest and build until K2's plans ask for nothing more, once failed runs have rested."""
    settings: Settings = own.settings
    with local_instance(settings) as instance:
        later = LONGEST_BACKOFF + timedelta(minutes=1)
        return catch_up_feed(settings, own.feed, TRADES, instance, lambda: datetime.now(UTC) + later)
