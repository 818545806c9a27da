"""Defines the asset of a raw table: every message of the topic of a feed's kind as one row."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import dagster as dg

from k2_assets.dead_letter_retry import retry_dead_letters
from k2_assets.ingestion import Ingestion, IngestReport
from k2_assets.names import family_name
from k2_assets.records.ingest_config import IngestConfig, claims_of
from k2_assets.records.ingest_runs import failed_ingests
from k2_assets.records.partitions import day_of
from k2_assets.records.run_failure import failure_noted
from k2_assets.records.run_process import sign
from k2_assets.records.run_scope import materialized
from k2_assets.setting_aside import set_aside
from k2_market.alerting.silence import longest_pause
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.day_report import NOTHING
from k2_market.ledger.ledger import Ledger, spans_to_json
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.block_decoder import DayWindow
from k2_market.plans.build_plan import is_open
from k2_market.plans.failed_runs import Handling
from k2_market.plans.ingest_claims import IngestClaims, halted
from k2_resources.dagster.iceberg_resource import IcebergCatalogResource
from k2_resources.dagster.kafka_resource import KafkaResource
from k2_resources.dagster.registry_resource import SchemaRegistryResource
from k2_resources.iceberg.day_planning import files_by_day
from k2_resources.kafka.topic_reader import OffsetsGone
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import correlation
from k2_resources.raw.claim_lookup import looked_up
from k2_resources.raw.view import RawView
from k2_resources.runtime import crash_points


def raw_table_asset(feed: Feed, kind: RawKind, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Make the asset of a feed's raw table of a kind."""
    key, topic = dg.AssetKey([feed.name, kind.raw_table]), kind.topic(feed)

    @dg.asset(
        key=key,
        partitions_def=days,
        pool=f"{family_name(feed.name, kind)}_raw",
        group_name=feed.name,
        kinds={"kafka", "iceberg"},
        freshness_policy=_freshness(feed),
        description=f"Every message of {topic} as a row, decoded or with its bytes and why not.",
    )
    def raw_table(
        context: dg.AssetExecutionContext,
        config: IngestConfig,
        kafka: KafkaResource,
        iceberg: IcebergCatalogResource,
        registry: SchemaRegistryResource,
    ) -> Iterator[dg.MaterializeResult[None]]:
        sign(context)
        own_day = day_of(context.partition_key)
        if config.dead_letters_of:
            window, days = DayWindow.of(feed, datetime.now(UTC)), map(day_of, config.dead_letters_of)
            with correlation(context.run.run_id):
                gained = retry_dead_letters(iceberg, feed.name, kind, registry.registry(), window, days)
            yield from materialized(context, key, gained, _data_versions(iceberg.raw_table(feed.name, kind).view()))
            return
        group = f"k2-{feed.name}-{kind.raw_table.replace('_', '-')}"
        table = iceberg.raw_table(feed.name, kind)
        calendar = TradingCalendar.of(feed)
        topics = kafka.topics()
        now = datetime.now(UTC)
        ingestion = Ingestion(
            feed=feed.name,
            topic=topic,
            reader=kafka.reader(topic, group),
            registry=registry.registry(),
            table=table,
            window=DayWindow.of(feed, now),
            published_days=closed_published_days(iceberg, feed, kind, calendar, now),
            run_id=context.run.run_id,
        )
        with correlation(context.run.run_id):
            claims = claims_of(config)
            if claims.topic_id:
                failed = partial(failed_ingests, context.instance, feed.name, kind, now)
                claims = looked_up(claims, ingestion.reader, ingestion.registry, table, calendar, failed)
            else:
                ranges = pending_of_day(topic, calendar, topics, table.ledger(), own_day)
                claims = IngestClaims("", ranges)
            with failure_noted(context):
                report = carry_out(ingestion, claims, config.careful)
        crash_points.reached("after_commit")
        view = table.view()
        yield from materialized(context, key, _metadata_by_day(report, own_day, view), _data_versions(view))
        crash_points.reached("after_event")
        topics.mirror(topic, group, table.ledger().settled)

    return raw_table


def _freshness(feed: Feed) -> dg.FreshnessPolicy | None:
    pause = longest_pause(feed)
    return None if pause is None else dg.FreshnessPolicy.time_window(fail_window=pause)


def _data_versions(view: RawView) -> dict[date, str]:
    return {day: str(version) for day, version in view.day_versions.items()}


def carry_out(ingestion: Ingestion, claims: IngestClaims, careful: bool) -> IngestReport:
    """Do with the offsets of a run's claims, which have been looked up, what they say.

    Args:
        ingestion: Has the topic and the table.
        claims: What the run was told.
        careful: Whether nothing is to be read but what is needed.
    """
    if careful:
        ingestion = replace(ingestion, reader=ingestion.reader.carefully())
    if claims.handling is Handling.DECODE:
        return ingestion.run(claims.ranges, claims.lost, claims.truncated)
    return set_aside(ingestion, claims.ranges, claims.handling, claims.failed_attempts, claims.lost)


def pending_of_day(
    topic_name: str, calendar: TradingCalendar, topics: KafkaTopics, ledger: Ledger, day: date
) -> RangeSet:
    """Find what a topic holds of a trading day, by record time, and the ledger lacks: a run's own plan.

    Raises:
        OffsetsGone: The topic is halted, since its log was cut short.
    """
    topic = topics.state(topic_name)
    if topic is None:
        return RangeSet()
    cut = ledger.truncated.of_topic(topic.topic_id)
    if cut:
        raise OffsetsGone(halted(topic.name, cut))
    starts, ends = (topics.offsets_at(topic, instant) for instant in calendar.instants_of(day))
    window = RangeSet.of(
        OffsetRange(topic.topic_id, partition, starts[partition], ends[partition])
        for partition in starts
        if ends[partition] > starts[partition]
    )
    return (window & topic.readable) - ledger.settled


def closed_published_days(
    iceberg: IcebergCatalogResource, feed: Feed, kind: RawKind, calendar: TradingCalendar, now: datetime
) -> frozenset[date]:
    """List the days that have closed and that were published: rows that still come for them are late."""
    if kind.cleaned_table is None:
        return frozenset()
    published = iceberg.day_table(feed.name, kind.cleaned_table).builds()
    return frozenset(day for day in published if not is_open(day, calendar, now))


def _metadata_by_day(report: IngestReport, own_day: date, view: RawView) -> dict[date, dict[str, Any]]:
    ranges: Iterable[OffsetRange] = report.committed
    of_run: dict[str, Any] = {
        "offset_ranges": dg.MetadataValue.json(
            {topic_id: spans_to_json(report.committed.of_topic(topic_id)) for topic_id in {r.topic_id for r in ranges}}
        ),
        "snapshot_id": str(report.snapshot_id),
        "messages_of_run": len(report.committed),
        "late_rows": report.late_rows,
        "read_seconds": report.read_seconds,
        "decode_seconds": report.decode_seconds,
        "write_seconds": report.write_seconds,
        "commit_seconds": report.commit_seconds,
    }
    days = {own_day: NOTHING, **report.by_day}
    files = files_by_day(view.table, list(days))
    return {
        day: {
            "dagster/row_count": files[day].rows,
            "bytes": files[day].bytes,
            "files": files[day].files,
            "rows_added": each.rows,
            "dead_letters": each.dead_letters,
            "symbols": len(each.symbols),
            "first_timestamp": "" if each.first is None else each.first.isoformat(),
            "last_timestamp": "" if each.last is None else each.last.isoformat(),
            **of_run,
            **({} if each.rows else {"note": _nothing_added(report)}),
        }
        for day, each in sorted(days.items())
    }


def _nothing_added(report: IngestReport) -> str:
    if report.refused:
        return f"Nothing added: {len(report.refused)} offsets were committed by another run in the meantime."
    return "Nothing added: the ledger has every message that the topic holds for this day."
