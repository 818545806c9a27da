"""Plans the decoding of dead letters from their kept bytes, after a schema or decoder was mended."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS, offset_frame, offsets_of, rows_within
from k2_market.messages.batch import MessageBatch
from k2_market.messages.row_admission import awaited_day
from k2_market.repair.day_repair import Rewrite
from k2_market.values.record_times import NO_TIMESTAMP


@dataclass(frozen=True)
class DeadLetterPlan:
    """Describes what becomes of the dead letters filed under a day.

    Attributes:
        rewrite: What is to be written: the day's rows, and those of its dead letters that belong to other days.
        dead_letters: How many dead letters of the day were tried.
        decoded: How many of them decode now, by the day that they belong to; empty where none does.
        reasons: Why the others don't, and how many.
        judged_anew: How many of the others were only too early for their day and are dead for another reason now that
            it has come; they are written with that reason, so that they are not tried for ever.
    """

    rewrite: Rewrite
    dead_letters: int
    decoded: Mapping[date, int]
    reasons: Mapping[str, int]
    judged_anew: int = 0

    @property
    def changes(self) -> bool:
        """Say whether there is anything to write."""
        return bool(self.decoded or self.judged_anew)


def dead_letters_of(rows: pa.Table) -> pa.Table:
    """Return the dead letters among some raw rows."""
    return rows.filter(rows["reject_reason"].is_valid())


def tried_letters(rows: pa.Table, ledger: Ledger, only: RangeSet | None) -> pa.Table:
    """Pick the dead letters among some raw rows that are to be decoded again.

    Args:
        rows: The rows.
        ledger: Knows which were set aside: whatever decodes these fails, so that each is tried by itself.
        only: The offsets to try; None for all that were not set aside.
    """
    dead = dead_letters_of(rows)
    aside = rows_within(dead, ledger.set_aside)
    return dead.filter(pa.array(~aside if only is None else aside & rows_within(dead, only)))


def kept_messages(dead: pa.Table) -> list[MessageBatch]:
    """Return the messages that some dead letters were, as they were read; a batch for each topic id."""
    batches = []
    for topic_id in sorted(dead["kafka_topic_id"].unique().to_pylist()):
        rows = dead.filter(pc.equal(dead["kafka_topic_id"], topic_id))
        milliseconds = pc.divide(rows["kafka_timestamp"].cast(pa.int64()), 1000)
        batches.append(
            MessageBatch(
                topic_id=topic_id,
                partitions=rows["kafka_partition"].to_pylist(),
                offsets=rows["kafka_offset"].to_pylist(),
                timestamps_ms=milliseconds.fill_null(NO_TIMESTAMP).to_pylist(),
                keys=rows["kafka_key"].to_pylist(),
                values=rows["payload"].to_pylist(),
                correlation_ids=rows["correlation_id"].to_pylist(),
            )
        )
    return batches


def dead_letter_plan(
    day: date, rows: pa.Table, elsewhere: pa.Table, covered: RangeSet, again: pa.Table
) -> DeadLetterPlan:
    """Tell what becomes of a day's dead letters.

    Those that are in the table more than once, or not in its ledger, stay: the day is to be repaired first.

    Args:
        day: The day that they are filed under.
        rows: All rows of the day.
        elsewhere: The offset columns of rows of other days, of those at least that have an offset of a dead letter.
        covered: The offsets in the ledger.
        again: What the dead letters that are tried decode to now.
    """
    decoded = again.filter(again["reject_reason"].is_null())
    decoded = decoded.filter(pa.array(rows_within(decoded, covered - offsets_of(elsewhere) - _repeated(rows))))
    replaced = rows_within(rows, offsets_of(decoded))
    still_dead = again.filter(pa.array(~rows_within(again, offsets_of(decoded))))
    kept, judged_anew = _judged_anew(rows.filter(pa.array(~replaced)), still_dead)
    return DeadLetterPlan(
        rewrite=Rewrite(day, pa.concat_tables([kept, decoded])),
        dead_letters=again.num_rows,
        decoded=dict(sorted(Counter(decoded["trade_date"].to_pylist()).items())),
        reasons=dict(Counter(_reason(each) for each in still_dead["reject_reason"].to_pylist()).most_common()),
        judged_anew=judged_anew,
    )


def _judged_anew(rows: pa.Table, still_dead: pa.Table) -> tuple[pa.Table, int]:
    """Give the rows their present reason where they waited for their day and no longer do, and how many those are."""
    position = rows.schema.get_field_index("reject_reason")
    column = rows.column(position).combine_chunks()
    present = dict(zip(_places(still_dead), map(_reason, still_dead["reject_reason"].to_pylist()), strict=True))
    dead = column.is_valid()
    reasons = {
        place: present[place]
        for place, before in zip(_places(rows.filter(dead)), column.drop_null().to_pylist(), strict=True)
        if place in present and _waits_no_more(before, present[place])
    }
    if not reasons:
        return rows, 0
    places = zip(_places(rows.filter(dead)), column.drop_null().to_pylist(), strict=True)
    after = pa.array([reasons.get(place, before) for place, before in places], column.type)
    return rows.set_column(position, rows.schema.field(position), pc.replace_with_mask(column, dead, after)), len(
        reasons
    )


def _places(rows: pa.Table) -> Iterator[tuple[str, int, int]]:
    return zip(*(rows[column].to_pylist() for column in OFFSET_COLUMNS), strict=True)


def _waits_no_more(before: str, now: str) -> bool:
    return awaited_day(before) is not None and awaited_day(now) is None


def _repeated(rows: pa.Table) -> RangeSet:
    frame = offset_frame(rows)
    return offsets_of(rows.filter(frame.is_duplicated().to_arrow()))


def _reason(found: str | None) -> str:
    return "in the table more than once, or not in its ledger: repair the day first" if found is None else found
