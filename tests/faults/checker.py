"""The one checker that every fault test ends with: what brokers acknowledged against what the tables hold."""

from collections import Counter
from collections.abc import Sequence

from fault_tally import FaultTally
from recorded_producer import Acked

from k2_market.offset_ranges import RangeSet
from k2_resources.iceberg_catalog import open_catalog
from k2_resources.raw_table import RawTable
from k2_resources.settings import Settings

NO_GAPS = RangeSet()


def assert_nothing_lost_or_doubled(
    settings: Settings, feed: str, acked: Sequence[Acked], tally: FaultTally, gaps: RangeSet = NO_GAPS
) -> None:
    """See that every acknowledged message is one row, or lies in a gap that the ledger tells of.

    Args:
        settings: Whose tables.
        feed: The feed's name.
        acked: All that brokers acknowledged for the feed's topic.
        tally: Counts what was found.
        gaps: Offsets that the test took away from the broker; the ledger must tell of exactly these.
    """
    view = RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), feed).view()
    offsets = view.all_offsets()
    rows = Counter(zip(*(column.to_pylist() for column in offsets.columns), strict=True))
    sent = {(each.topic_id, each.partition, each.offset) for each in acked}
    excused = {place for place in sent if gaps.contains(*place)}
    lost, doubled = sent - excused - set(rows), {place for place, times in rows.items() if times > 1}
    tally.produced += len(acked)
    tally.lost += len(lost)
    tally.doubled += len(doubled)
    assert not lost, f"{len(lost)} messages lost, as {sorted(lost)[:5]}"
    assert not doubled, f"{len(doubled)} messages doubled, as {sorted(doubled)[:5]}"
    assert set(rows) <= sent, f"rows that no broker acknowledged: {sorted(set(rows) - sent)[:5]}"
    assert view.ledger.lost == gaps, f"the ledger tells of {list(view.ledger.lost)} as lost, not of {list(gaps)}"
