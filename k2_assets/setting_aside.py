"""Records offsets whose runs failed again and again as dead letters, or as set aside unread (``plans.failed_runs``)."""

import pyarrow as pa

from k2_assets.ingestion import EMPTY_RANGES, Ingestion, IngestReport
from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet, named
from k2_market.messages import block_decoder
from k2_market.messages.batch import MessageBatch
from k2_market.plans.failed_runs import Handling
from k2_resources.kafka.topic_reader import Unreadable
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.delivery import Delivery

_log = get_logger("ingest")


def set_aside(
    ingestion: Ingestion, ranges: RangeSet, handling: Handling, attempts: int, lost: RangeSet = EMPTY_RANGES
) -> IngestReport:
    """Set some offsets aside, those at least that are not in the ledger by now.

    Nothing is decoded. What the client can read becomes dead letters with their bytes, and a reason that says so; what
    it can't read, and all of it where it is not even to be read, is noted in the ledger alone.

    Args:
        ingestion: Has the topic, its reader and the table.
        ranges: The offsets.
        handling: ``KEEP_BYTES`` or ``SKIP``.
        attempts: After how many failed attempts; for the reason.
        lost: Offsets that retention removed, to be recorded beside.

    Raises:
        OffsetsGone: The topic is another one by now.
    """
    for topic_id in sorted({topic_id for topic_id, _ in (*ranges.spans, *lost.spans)}):
        ingestion.reader.require_same_topic(topic_id)
    reason = f"set aside after {attempts} failed attempts"
    report = IngestReport()
    left = ranges - ingestion.table.ledger().settled
    unread = left if handling is Handling.SKIP else EMPTY_RANGES
    left = left - unread
    while left:
        before = left
        try:
            for read in ingestion.reader.read(left):
                rows = block_decoder.undecoded(read.messages, ingestion.kind, reason, ingestion.window)
                _commit(ingestion, report, rows, read.covered, offsets_of(read.messages))
                left = left - read.covered
        except Unreadable as error:
            unread = unread | (error.ranges & left)
            left = left - error.ranges
        if left == before:
            raise K2Error(f"{ingestion.topic}: nothing came of {named(left)}, neither messages nor an error")
    if unread or lost:
        _commit(ingestion, report, ingestion.table.schema.empty_table(), EMPTY_RANGES, unread, lost)
    _log.warning(
        "offsets set aside",
        feed=ingestion.feed,
        table=ingestion.table.identifier,
        run_id=ingestion.run_id,
        reason=reason,
        dead_letters=[str(each) for each in ranges - unread],
        unread=[str(each) for each in unread],
    )
    return report


def offsets_of(messages: MessageBatch) -> RangeSet:
    """Collect the offsets of some messages."""
    places = zip(messages.partitions, messages.offsets, strict=True)
    return RangeSet.of(OffsetRange(messages.topic_id, int(p), int(offset), int(offset) + 1) for p, offset in places)


def _commit(
    ingestion: Ingestion,
    report: IngestReport,
    rows: pa.Table,
    covered: RangeSet,
    aside: RangeSet,
    lost: RangeSet = EMPTY_RANGES,
) -> None:
    topics = {topic_id for topic_id, _ in (*covered.spans, *aside.spans, *lost.spans)}
    delivery = Delivery(
        rows=rows,
        covered=covered,
        topic_names=dict.fromkeys(topics, ingestion.topic),
        run_id=ingestion.run_id,
        lost=lost,
        set_aside=aside,
        published_days=ingestion.published_days,
    )
    report.add(ingestion.table.commit(delivery))
