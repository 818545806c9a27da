"""Defines the asset of a raw table: every message of the topic of a feed's kind as one row."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial, reduce
from operator import add
from typing import Any

import dagster as dg

from k2_assets.asset_facts import table_facts
from k2_assets.dead_letter_retry import retry_dead_letters
from k2_assets.ingestion import Ingestion, IngestReport
from k2_assets.names import family_name
from k2_assets.records.ingest_config import IngestConfig, claims_of
from k2_assets.records.ingest_runs import failed_ingests
from k2_assets.records.partitions import by_session, day_of, latest_of_session, seconds
from k2_assets.records.raw_files import files_metadata
from k2_assets.records.run_failure import failure_noted
from k2_assets.records.run_process import record_process
from k2_assets.records.run_scope import materialized
from k2_assets.setting_aside import set_aside
from k2_assets.topic import topic_key
from k2_market.alerting.silence import longest_pause
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.day_report import EMPTY_REPORT
from k2_market.ledger.ledger import Ledger, spans_to_json
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.block_decoder import DayWindow
from k2_market.plans.build_plan import is_open
from k2_market.plans.failed_runs import Handling
from k2_market.plans.ingest_claims import IngestClaims, halted
from k2_resources.dagster.resources import IcebergCatalogResource, KafkaResource, SchemaRegistryResource
from k2_resources.kafka.topic_reader import OffsetsGone
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import correlation
from k2_resources.raw.claim_lookup import verified_claims
from k2_resources.raw.view import RawView
from k2_resources.runtime import crash_points


def raw_table_asset(feed: Feed, kind: RawKind, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Make the asset of a feed's raw table of a kind."""
    key, topic = dg.AssetKey([feed.name, kind.raw_table]), kind.topic(feed)

    @dg.asset(
        key=key,
        deps=[topic_key(feed.name, kind)],
        partitions_def=days,
        **table_facts(feed, kind.raw_table, kind.messages.rows, "raw"),
        pool=f"{family_name(feed.name, kind)}_raw",
        group_name=feed.name,
        kinds={"kafka", "iceberg"},
        freshness_policy=_freshness(feed),
        description=f"Every message of the Kafka topic {topic} as one row: its values or, where it does not decode, "
        "its bytes and the reason. Other tables are made from it.",
    )
    def raw_table(
        context: dg.AssetExecutionContext,
        config: IngestConfig,
        kafka: KafkaResource,
        iceberg: IcebergCatalogResource,
        registry: SchemaRegistryResource,
    ) -> Iterator[dg.MaterializeResult[None]]:
        record_process(context)
        own_day = day_of(context.partition_key)
        calendar = TradingCalendar.of(feed)
        if config.dead_letters_of:
            window, days = DayWindow.of(feed, datetime.now(UTC)), map(day_of, config.dead_letters_of)
            with correlation(context.run.run_id):
                gained = retry_dead_letters(iceberg, feed.name, kind, registry.registry(), window, days)
            view = iceberg.raw_table(feed.name, kind).view()
            yield from materialized(context, key, gained, _data_versions(view, calendar))
            return
        group = f"k2-{feed.name}-{kind.raw_table.replace('_', '-')}"
        table = iceberg.raw_table(feed.name, kind)
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
                claims = verified_claims(claims, ingestion.reader, ingestion.registry, table, calendar, failed)
            else:
                ranges = pending_of_day(topic, calendar, topics, table.ledger(), own_day)
                claims = IngestClaims("", ranges)
            with failure_noted(context):
                report = carry_out(ingestion, claims, config.careful)
        crash_points.reached("after_commit")
        view = table.view()
        metadata = _metadata_by_session(report, own_day, view, calendar)
        yield from materialized(context, key, metadata, _data_versions(view, calendar))
        crash_points.reached("after_event")
        topics.mirror(topic, group, table.ledger().settled)

    return raw_table


def _freshness(feed: Feed) -> dg.FreshnessPolicy | None:
    pause = longest_pause(feed)
    return None if pause is None else dg.FreshnessPolicy.time_window(fail_window=pause)


def _data_versions(view: RawView, calendar: TradingCalendar) -> dict[date, str]:
    return {day: str(version) for day, version in latest_of_session(calendar, view.day_versions).items()}


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
    """Find what a topic holds of a session, by record time, and the ledger lacks: a run's own plan.

    The closed dates before the session are part of it.

    Raises:
        OffsetsGone: The topic is halted, since its log was cut short.
    """
    topic = topics.state(topic_name)
    if topic is None:
        return RangeSet()
    cut = ledger.truncated.of_topic(topic.topic_id)
    if cut:
        raise OffsetsGone(halted(topic.name, cut))
    first = calendar.dates_reported_with(day)[0]
    starts, ends = (topics.offsets_at(topic, at) for at in (calendar.day_start(first), calendar.day_end(day)))
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


def _metadata_by_session(
    report: IngestReport, own_day: date, view: RawView, calendar: TradingCalendar
) -> dict[date, dict[str, Any]]:
    offsets = {each.topic_id: spans_to_json(report.committed.of_topic(each.topic_id)) for each in report.committed}
    of_run: dict[str, Any] = {
        "late_rows": report.late_rows,
        "messages_of_run": len(report.committed),
        "snapshot_id": str(report.snapshot_id),
        "read_seconds": seconds(report.read_seconds),
        "decode_seconds": seconds(report.decode_seconds),
        "write_seconds": seconds(report.write_seconds),
        "commit_seconds": seconds(report.commit_seconds),
        "offset_ranges": dg.MetadataValue.json(offsets),
    }
    reports = {
        session: reduce(add, by_date.values())
        for session, by_date in by_session(calendar, {own_day: EMPTY_REPORT, **report.by_day}).items()
    }
    return {
        session: {
            **files,
            "rows_added": reports[session].rows,
            "dead_letters": reports[session].dead_letters,
            "symbols": len(reports[session].symbols),
            "first_timestamp": "" if (first := reports[session].first) is None else first.isoformat(),
            "last_timestamp": "" if (last := reports[session].last) is None else last.isoformat(),
            **({} if reports[session].rows else {"note": _nothing_added(report)}),
            **of_run,
        }
        for session, files in files_metadata(view, calendar, reports).items()
    }


def _nothing_added(report: IngestReport) -> str:
    if report.refused:
        return f"Nothing added: {len(report.refused)} offsets were committed by another run in the meantime."
    return "Nothing added: the ledger has every message that the topic holds for this day."
