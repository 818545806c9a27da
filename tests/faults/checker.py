"""The one checker that every fault test ends with: what brokers acknowledged against what the tables hold.

It has three accounts: of the acknowledged messages (each one row, saying what was sent), of everything that
``k2 verify ledger`` recomputes, and of the trades and bars of days, which ``k2 verify bars`` recomputes from raw rows.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import polars as pl
from fault_tally import FaultTally
from pyiceberg.table import Table
from recorded_producer import Acked

from k2_cli.commands.verify import verify_ledger
from k2_market.feeds.feed import load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.schemas.message_kinds import TRADE_MESSAGES
from k2_market.verification.invariants import Verification
from k2_market.verification.ledger_claims import ledger_claims
from k2_market.verification.message_comparison import ComparedColumns, Comparison, schema_ids
from k2_market.verification.offset_accounts import pieces, ranges, ranges_of_offsets, texts, union
from k2_resources.iceberg.catalog import find_table, open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.proofs.bars_proof import prove_bars
from k2_resources.proofs.row_chunks import RowChunks
from k2_resources.proofs.snapshot_files import snapshot_files
from k2_resources.settings import Settings

NO_GAPS = RangeSet()
BROKER_ASKED_UP_TO = 500_000
"""Of more messages the broker's own account is left out: all of them have been compared with what was sent."""


def assert_nothing_lost_or_doubled(
    settings: Settings,
    feed: str,
    acked: Sequence[Acked],
    tally: FaultTally,
    gaps: RangeSet = NO_GAPS,
    *,
    unread: RangeSet = NO_GAPS,
    days: Iterable[date] = (),
    broker: bool = True,
    unanswered: int = 0,
) -> None:
    """See that every acknowledged message is one row, or lies in a gap that the ledger tells of; and all else there is.

    Args:
        settings: Whose tables.
        feed: The feed's name.
        acked: All that brokers acknowledged for the feed's topic.
        tally: Counts what was found.
        gaps: Offsets that the test took away from the broker; the ledger must tell of exactly these.
        unread: Offsets that the test made unreadable; the ledger must have set exactly these aside without a row.
        days: Trading days whose trades and bars are to be what a recomputation from their raw rows gives.
        broker: Whether the broker answers, and may be asked what it holds.
        unanswered: Messages that got no acknowledgement, and may be there all the same.
    """
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    table = find_table(catalog, feed, "raw_trades")
    assert table is not None, f"{feed} has no raw table"
    declared = load_feeds(settings.feed_directories)[feed]
    _assert_each_acked_is_one_row(settings, table, acked, tally, gaps, unread, unanswered)
    offline = not broker or len(acked) > BROKER_ASKED_UP_TO
    assert_verified(verify_ledger(settings, declared, TRADES, None, offline, lambda done, total: None))
    if wanted := list(days):
        assert_verified(prove_bars(catalog, declared, wanted, datetime.now(UTC)))


def assert_verified(found: Verification) -> None:
    """See that a verification found nothing, and could look at all that it was to look at."""
    wrong = [f"{each.invariant} {each.what} ({each.count}): {', '.join(each.where[:5])}" for each in found.violations]
    assert found.holds, "\n".join([found.subject, *wrong, *found.unanswered])


def _assert_each_acked_is_one_row(
    settings: Settings,
    table: Table,
    acked: Sequence[Acked],
    tally: FaultTally,
    gaps: RangeSet,
    unread: RangeSet,
    unanswered: int,
) -> None:
    sent = pl.DataFrame(
        {
            "topic_id": [each.topic_id for each in acked],
            "partition": [each.partition for each in acked],
            "offset": [each.offset for each in acked],
        },
        schema={"topic_id": pl.String, "partition": pl.Int32, "offset": pl.Int64},
    )
    files = snapshot_files(table)
    chunks = RowChunks.of(table, TRADES.messages.rows, files.readable)
    rows = pl.concat([ranges([]), *(found for found, _ in chunks.offsets())])
    lost_on_record, aside_on_record = (
        ranges((each.topic_id, each.partition, each.start, each.end) for each in of) for of in (gaps, unread)
    )
    away = union(lost_on_record, aside_on_record)
    account = pieces({"sent": ranges_of_offsets(sent), "rows": rows, "away": away})
    account = account.with_columns((pl.col("end") - pl.col("start")).alias("offsets"))
    lost = account.filter((pl.col("sent") > 0) & (pl.col("rows") == 0) & (pl.col("away") == 0))
    doubled = account.filter(pl.col("rows") > 1)
    unknown = account.filter((pl.col("rows") > 0) & (pl.col("sent") == 0))
    tally.produced += len(acked)
    tally.lost += int(lost["offsets"].sum())
    tally.doubled += int(doubled["offsets"].sum())
    assert lost.is_empty(), f"{lost['offsets'].sum()} messages lost, as {texts(lost)[:5]}"
    assert doubled.is_empty(), f"{doubled['offsets'].sum()} messages doubled, as {texts(doubled)[:5]}"
    assert unknown["offsets"].sum() <= unanswered, f"rows that no broker acknowledged: {texts(unknown)[:5]}"
    claims = ledger_claims(table.properties.get("k2.ledger"))
    for told, expected in ((claims.lost, lost_on_record), (claims.unread, aside_on_record)):
        found, wanted = texts(union(told)), texts(union(expected))
        assert found == wanted, f"the ledger tells of {found} as lost or unread, not of {wanted}"
    _assert_rows_say_what_was_sent(settings, chunks, sent, acked)


def _assert_rows_say_what_was_sent(
    settings: Settings, chunks: RowChunks, sent: pl.DataFrame, acked: Sequence[Acked]
) -> None:
    schemas = SchemaRegistry(settings.schema_registry_url).writer_schemas(schema_ids(each.value for each in acked))
    places = sent.rename(
        {"topic_id": "kafka_topic_id", "partition": "kafka_partition", "offset": "kafka_offset"}
    ).with_row_index("place")
    found = Comparison(ComparedColumns.of(TRADE_MESSAGES))
    for rows in chunks.rows(found.columns.names):
        own = rows.join(places, on=["kafka_topic_id", "kafka_partition", "kafka_offset"], how="inner")
        for _, of_topic in own.group_by("kafka_topic_id"):
            values = [acked[place].value for place in of_topic["place"]]
            found.add_content(
                of_topic["kafka_partition"].to_list(),
                of_topic["kafka_offset"].to_list(),
                values,
                of_topic.drop("place"),
                schemas,
            )
    shown = "; ".join(map(str, found.examples[:5]))
    assert not found.differing, f"{found.differing} rows do not say what was sent, as {shown}"
