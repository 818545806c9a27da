"""Runs in this process what the sensors would request: the same plans and jobs, without a daemon."""

import faulthandler
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_assets.names import build_job_name, ingest_job_name
from k2_assets.records.run_process import RunProcess
from k2_assets.records.run_records import ingests_in_flight, plan_tags
from k2_assets.records.run_scope import days_tag
from k2_assets.records.run_tags import PROCESS_TAG, REBUILD_TAG
from k2_assets.schedules import open_day_builds
from k2_market.errors import K2Error
from k2_market.feeds.feed import Feed, feed_named, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.shipped import KINDS, kinds_of
from k2_market.kinds.trades import TRADES
from k2_market.plans.build_plan import MAX_DAYS_PER_RUN
from k2_market.plans.build_rules import BuildRules
from k2_market.plans.day_builds import outdated_days, stale_days
from k2_market.plans.ingest_claims import halted
from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS
from k2_market.schemas.tables import DAY
from k2_platform.dagster_storage import DagsterHome, exclusive_lock, initialise, pools_of_feeds
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.table_errors import database_message
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import get_logger
from k2_resources.settings import Settings
from k2_sensors.awaited_day_sensor import next_retry
from k2_sensors.kafka_sensor import next_ingest
from k2_sensors.run_watch import end_dead_runs
from k2_sensors.stale_day_sensor import build_facts, next_build

MOST_SECONDS = 240

_log = get_logger("catch-up")


class DagsterRecordsUnavailable(K2Error):
    """Dagster's storage of runs and events can't be read or written."""


class NotCaughtUp(K2Error):
    """The daemon has not done what was pending in the time it was given."""


@dataclass
class CaughtUp:
    """Describes what was run for a feed.

    Attributes:
        feed: Its name.
        ingest_runs: Runs that took messages.
        build_runs: Runs that made days.
        failed: Runs of both that failed; what they carried stays pending.
        waiting: Why nothing more was started.
        left: What is pending all the same, or halted; empty where there is nothing.
        error: Why the feed could not be looked at any further; empty where it could.
    """

    feed: str
    ingest_runs: int = 0
    build_runs: int = 0
    failed: int = 0
    waiting: str = ""
    left: str = ""
    error: str = ""

    @property
    def complete(self) -> bool:
        """Say whether everything that there was has been done."""
        return not (self.failed or self.left or self.error)


def feeds_named(settings: Settings, names: Sequence[str] | None) -> list[Feed]:
    """Return the feeds of some names, or all.

    Raises:
        UnknownFeedError: No file declares one of them.
    """
    known = load_feeds(settings.feed_directories)
    return [feed_named(known, name) for name in names or known]


@contextmanager
def local_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open this home's Dagster instance, made if it is not there yet.

    Raises:
        DagsterRecordsUnavailable: In place of its database's errors, here or in the block.
    """
    home = DagsterHome(settings.dagster_home, settings.code_server_port, {})
    try:
        with exclusive_lock(settings.dagster_home):
            if not home.is_written:
                home.write()
                initialise(settings.dagster_home, pools_of_feeds(settings))
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            yield instance
    except SQLAlchemyError as error:
        raise DagsterRecordsUnavailable(
            f"Dagster's records in {settings.dagster_home}: {database_message(error)}. Is its disk full or not "
            "writable, or its database down? Rows and ledger do not depend on it; what was committed stays"
        ) from error


def catch_up_feeds(
    settings: Settings,
    feeds: Sequence[Feed],
    kinds: Sequence[RawKind],
    instance: dg.DagsterInstance,
    clock: Callable[[], datetime],
) -> list[CaughtUp]:
    """Catch up feed after feed; an error of whatever kind ends the work of its own feed alone.

    Raises:
        SQLAlchemyError: Dagster's records can't be read or written, which concerns every feed.
    """
    done = []
    for feed, kind in [(each, kind) for each in feeds for kind in kinds_of(each, kinds)]:
        try:
            done.append(catch_up_feed(settings, feed, kind, instance, clock))
        except SQLAlchemyError:
            raise
        except Exception as error:
            foreseen = isinstance(error, K2Error)
            _log.error("catching up ended", feed=feed.name, error=str(error), exc_info=not foreseen)
            done.append(CaughtUp(feed.name, error=str(error) if foreseen else f"{type(error).__name__}: {error}"))
    return done


def catch_up_feed(
    settings: Settings, feed: Feed, kind: RawKind, instance: dg.DagsterInstance, clock: Callable[[], datetime]
) -> CaughtUp:
    """Run the pending ingests and builds of a feed's kind one after the other, until the plans ask for nothing more."""
    done = CaughtUp(feed.name)
    defs = build_defs(settings=settings, feeds={feed.name: feed}, kinds=[kind])
    iceberg = _iceberg(settings)
    topics = KafkaTopics(settings.bootstrap_servers)
    end_dead_runs(instance)
    retried = False
    while True:
        ingest = next_ingest(feed, kind, topics, iceberg, instance, clock())
        if isinstance(ingest, dg.RunRequest):
            done.ingest_runs += 1
            done.failed += not _carry_out(defs, ingest_job_name(feed.name, kind), ingest, instance)
            continue
        if not retried:
            retried = True
            for retry in next_retry(feed, kind, iceberg, instance, clock()).run_requests or ():
                done.ingest_runs += 1
                done.failed += not _carry_out(defs, ingest_job_name(feed.name, kind), retry, instance)
        build = next_build(feed, kind, iceberg, instance, clock())
        builds = [build] if isinstance(build, dg.RunRequest) else open_day_builds(feed, kind, iceberg, clock())
        if not builds or not kind.derived:
            done.waiting = str(ingest.skip_message)
            break
        done.build_runs += len(builds)
        failed = [
            each.partition_key
            for each in builds
            if not _carry_out(defs, build_job_name(feed.name, kind), each, instance)
        ]
        done.failed += len(failed)
        if failed:
            done.waiting = f"build of {', '.join(map(str, failed))} failed"
            break
    done.left = left_to_do(feed, kind, topics, iceberg, instance)
    return done


def outdated_days_of(settings: Settings, feed: Feed, first: date | None, last: date | None) -> list[date]:
    """List the days of a feed that were built under other rules than its file has, within bounds where given."""
    iceberg = _iceberg(settings)
    days = outdated_days(iceberg.day_table(feed.name, DAY.table).builds(), BuildRules.of(feed).fingerprint)
    return [day for day in days if (first or date.min) <= day <= (last or date.max)]


def rebuild_feed(
    settings: Settings,
    feed: Feed,
    days: Sequence[date],
    instance: dg.DagsterInstance,
    clock: Callable[[], datetime],
) -> list[date]:
    """Build days anew under the feed's current rules, some at a time; gives those whose build failed.

    A run that fails is made again day by day, so that one that can't be built leaves its neighbours rebuilt.
    """
    defs = build_defs(settings=settings, feeds={feed.name: feed}, kinds=[TRADES])
    failed: list[date] = []
    groups = [tuple(days[start : start + MAX_DAYS_PER_RUN]) for start in range(0, len(days), MAX_DAYS_PER_RUN)]
    while groups:
        group = groups.pop(0)
        request = dg.RunRequest(
            partition_key=TradingCalendar.of(feed).reporting_session(group[0]).isoformat(),
            tags={**plan_tags(feed, 1), **days_tag(group), REBUILD_TAG: clock().isoformat()},
        )
        if _carry_out(defs, build_job_name(feed.name, TRADES), request, instance):
            continue
        if len(group) == 1:
            failed += group
        groups = [*((day,) for day in group if len(group) > 1), *groups]
    return failed


def wait_until_caught_up(
    settings: Settings, feeds: Sequence[Feed], instance: dg.DagsterInstance, console: Console
) -> bool:
    """Wait while the daemon's sensors start run after run, until nothing is pending; whether a run failed.

    Raises:
        NotCaughtUp: It takes longer than ``MOST_SECONDS``.
    """
    waited_for = [(feed, kind) for feed in feeds for kind in kinds_of(feed, KINDS)]
    topics = KafkaTopics(settings.bootstrap_servers)
    iceberg = _iceberg(settings)
    waiting = Retrying(
        retry=retry_if_result(bool),
        wait=wait_fixed(1),
        stop=stop_after_delay(MOST_SECONDS),
        retry_error_callback=lambda state: "" if state.outcome is None else state.outcome.result(),
    )
    with console.status("the sensors start runs …") as status:

        def look() -> str:
            found = (left_to_do(feed, kind, topics, iceberg, instance) for feed, kind in waited_for)
            left = [text for text in found if text]
            status.update("; ".join(left) or "done")
            return "; ".join(left)

        left = waiting(look)
    if left:
        raise NotCaughtUp(f"not done after {MOST_SECONDS} s: {left}. Look at the runs in Dagster, and at `k2 status`")
    jobs = {job(feed.name, kind) for feed, kind in waited_for for job in (ingest_job_name, build_job_name)}
    failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    return any(run.job_name in jobs for run in failed)


def left_to_do(
    feed: Feed, kind: RawKind, topics: KafkaTopics, iceberg: IcebergCatalogResource, instance: dg.DagsterInstance
) -> str:
    """Name in words what is pending, under way or halted of a feed's kind; empty when there is nothing."""
    topic = topics.state(kind.topic(feed))
    ledger = iceberg.raw_table(feed.name, kind).ledger()
    if topic is not None:
        truncated = topic.unreached(ledger.covered) | ledger.truncated.of_topic(topic.topic_id)
        if truncated:
            return f"{feed.name}: {halted(topic.name, truncated)}"
    pending = 0 if topic is None else len(topic.readable - ledger.settled)
    if pending or ingests_in_flight(instance, feed, kind):
        return f"{feed.name}: {pending:,} messages pending"
    if not kind.derived:
        return ""
    facts = build_facts(feed, kind, iceberg, instance, datetime.now(UTC))
    days = set(stale_days(facts.versions, facts.builds)) | facts.building
    return f"{feed.name}: {len(days)} days to build" if days else ""


def caught_up_table(done: Sequence[CaughtUp], as_json: bool) -> str:
    """Tell what was run, as lines or as JSON."""
    if as_json:
        return json.dumps([asdict(each) for each in done])
    return "\n".join(
        f"{each.feed}: {each.ingest_runs} ingest and {each.build_runs} build runs, {each.failed} failed; "
        + (each.error or _with_left(each))
        for each in done
    )


def _with_left(done: CaughtUp) -> str:
    left = done.left.removeprefix(f"{done.feed}: ")
    return done.waiting if not left or left == done.waiting else f"{done.waiting}; left: {left}"


def _iceberg(settings: Settings) -> IcebergCatalogResource:
    return IcebergCatalogResource(uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)


def _carry_out(defs: dg.Definitions, job: str, request: dg.RunRequest, instance: dg.DagsterInstance) -> bool:
    # No daemon ends a run that hangs here; this ends the process, whatever it hangs in.
    limit = int(request.tags.get(MAX_RUNTIME_SECONDS_TAG, MAX_RUNTIME_SECONDS))
    faulthandler.dump_traceback_later(limit, exit=True, file=2)
    try:
        result = defs.resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            run_config=dict(request.run_config or {}),
            # Signed from the start: were it killed before its first step, it would be taken for one that is under way.
            tags={**request.tags, PROCESS_TAG: str(RunProcess.own())},
            raise_on_error=False,
        )
    finally:
        faulthandler.cancel_dump_traceback_later()
    return result.success
