"""Carrying out what the sensors would request, in this process: the same plans, the same jobs, no daemon."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime

import dagster as dg

from k2_assets.definitions import build_defs
from k2_assets.feed_family import build_job_name, ingest_job_name
from k2_assets.schedules import request_today
from k2_cli.dagster_processes import DagsterHome
from k2_cli.dagster_storage import initialise, pools_of_feeds
from k2_market.errors import K2Error
from k2_market.feed import Feed, load_feeds
from k2_resources.iceberg_resource import IcebergCatalogResource
from k2_resources.kafka_topics import KafkaTopics
from k2_resources.settings import Settings
from k2_sensors.kafka_sensor import next_ingest
from k2_sensors.run_watch import end_dead_runs
from k2_sensors.stale_day_sensor import next_build


class UnknownFeed(K2Error):
    """A feed was named that no file declares."""


@dataclass
class CaughtUp:
    """What was run for a feed.

    Attributes:
        feed: Its name.
        ingest_runs: Runs that took messages.
        build_runs: Runs that made days.
        failed: Runs of both that failed; what they carried stays pending.
        waiting: Why nothing more was started.
    """

    feed: str
    ingest_runs: int = 0
    build_runs: int = 0
    failed: int = 0
    waiting: str = ""


def feeds_named(settings: Settings, names: Sequence[str] | None) -> list[Feed]:
    """The feeds of some names, or all.

    Raises:
        UnknownFeed: No file declares one of them.
    """
    known = load_feeds(settings.feed_directories)
    for name in names or ():
        if name not in known:
            raise UnknownFeed(f"no feed {name!r}; those declared are {', '.join(known)} (K2_FEEDS_DIR adds more)")
    return [known[name] for name in names or known]


@contextmanager
def local_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """This home's Dagster instance, made if it is not there yet."""
    home = DagsterHome(settings.dagster_home, settings.code_server_port, {})
    if not (settings.dagster_home / "dagster.yaml").exists():
        home.write()
        initialise(settings.dagster_home, pools_of_feeds(settings))
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def catch_up_feed(
    settings: Settings, feed: Feed, instance: dg.DagsterInstance, clock: Callable[[], datetime]
) -> CaughtUp:
    """Run a feed's pending ingests and builds one after the other, until the plans ask for nothing more."""
    defs = build_defs(settings=settings, feeds={feed.name: feed})
    iceberg = IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    topics = KafkaTopics(settings.bootstrap_servers)
    done = CaughtUp(feed.name)
    end_dead_runs(instance)
    while True:
        ingest = next_ingest(feed, topics, iceberg, instance, clock())
        if isinstance(ingest, dg.RunRequest):
            done.ingest_runs += 1
            done.failed += not _carry_out(defs, ingest_job_name(feed), ingest, instance)
            continue
        build = next_build(feed, instance, clock())
        if isinstance(build, dg.SkipReason):
            build = request_today(feed, instance, clock())
        if isinstance(build, dg.SkipReason):
            done.waiting = str(ingest.skip_message)
            return done
        done.build_runs += 1
        succeeded = _carry_out(defs, build_job_name(feed), build, instance)
        done.failed += not succeeded
        if not succeeded:
            done.waiting = f"build of {build.partition_key} failed"
            return done


def caught_up_table(done: Sequence[CaughtUp], as_json: bool) -> str:
    """What was run, as lines or as JSON."""
    if as_json:
        return json.dumps([asdict(each) for each in done])
    return "\n".join(
        f"{each.feed}: {each.ingest_runs} ingest and {each.build_runs} build runs, {each.failed} failed; {each.waiting}"
        for each in done
    )


def _carry_out(defs: dg.Definitions, job: str, request: dg.RunRequest, instance: dg.DagsterInstance) -> bool:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        run_config=dict(request.run_config or {}),
        tags=dict(request.tags),
        raise_on_error=False,
    )
    return result.success
