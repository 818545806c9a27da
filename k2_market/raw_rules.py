"""Quality rules of the raw table: what its messages say about the feed, before anything is made of them.

Each takes rows of ``RAW_TRADES`` of one trading day, at once or in parts of whole symbols, and returns a ``Finding``.
None of them makes bars wrong, since cleaning deals with what they find; all of them are reason to look at the feed.
"""

from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow as pa

from k2_market.feed import SequenceScope
from k2_market.finding import MAX_EXAMPLES, Example, Finding, Severity
from k2_market.repeated_keys import rows_sharing_a_key
from k2_market.sequences import missing_ranges

MAX_GAPS_SHOWN = 1000
"""Missing ranges a finding lists: enough to ask the exchange for all of them on any but a broken day."""

_PLACE = ("kafka_topic_id", "kafka_partition", "kafka_offset")
_CONTENT = ("exchange_timestamp", "price", "quantity", "side", "conditions", "currency")

COLUMNS_OF_REPEATED = ("symbol", "trade_id", "action", "reject_reason", *_PLACE, *_CONTENT)
"""What ``duplicate_messages`` reads."""

COLUMNS_OF_SEQUENCES = ("symbol", "sequence_number", "exchange_timestamp", "kafka_topic_id", "kafka_partition")
"""What ``sequence_gaps`` reads."""


def dead_letters(raw: pa.Table) -> Finding:
    """Whether every message decoded.

    Numbers: ``raw_rows``, ``dead_letters``, ``reasons``. Examples: a reason each, the most frequent first, with its
    count and the place of its first message.
    """
    dead = _frame(raw, ["reject_reason", *_PLACE]).filter(pl.col("reject_reason").is_not_null()).sort(_PLACE)
    reasons = (
        dead.group_by("reject_reason")
        .agg(pl.len().alias("messages"), pl.col(_PLACE).first())
        .sort([pl.col("messages"), pl.col("reject_reason")], descending=[True, False])
    )
    return Finding(
        check="dead_letters",
        passed=dead.is_empty(),
        severity=Severity.WARN,
        description=f"{dead.height} of {raw.num_rows} messages would not decode, for {reasons.height} reasons.",
        numbers={"raw_rows": raw.num_rows, "dead_letters": dead.height, "reasons": reasons.height},
        examples=tuple(
            {"reason": row["reject_reason"], "messages": row["messages"], "first": _place(row)}
            for row in reasons.head(MAX_EXAMPLES).iter_rows(named=True)
        ),
        sizes=frozenset({"raw_rows"}),
    )


def duplicate_messages(parts: Iterable[pa.Table]) -> Finding:
    """Whether every trade was reported once.

    Args:
        parts: The day's rows, all of a symbol in one part.

    Only ``NEW`` messages with a trade_id can be told to repeat one another.
    Numbers: ``duplicates`` (messages beyond the first of their id), ``repeated_ids``, ``conflicting_ids`` (repeated
    with differing content). Examples: an id each, conflicting ones first, with the places of its first and last
    message.
    """
    found = list(map(_repeated_in, parts))
    ids = pl.concat(each for each, _ in found).sort(
        [pl.col("conflicting"), pl.col("symbol"), pl.col("trade_id")], descending=[True, False, False]
    )
    repeated = sum(messages for _, messages in found)
    conflicting = ids.filter("conflicting").height
    return Finding(
        check="duplicate_messages",
        passed=ids.is_empty(),
        severity=Severity.WARN,
        description=f"{repeated - ids.height} messages repeat {ids.height} trades; "
        f"{conflicting} ids stand for differing trades.",
        numbers={
            "duplicates": repeated - ids.height,
            "repeated_ids": ids.height,
            "conflicting_ids": conflicting,
        },
        examples=tuple(
            {
                "symbol": row["symbol"],
                "trade_id": row["trade_id"],
                "messages": row["messages"],
                "conflicting": str(row["conflicting"]).lower(),
                "first": _place(row["first"]),
                "last": _place(row["last"]),
            }
            for row in ids.head(MAX_EXAMPLES).iter_rows(named=True)
        ),
    )


def sequence_gaps(parts: Iterable[pa.Table], scope: SequenceScope) -> Finding:
    """Whether the feed's sequence numbers are complete.

    Args:
        parts: The day's rows, all within which the feed counts in one part.
        scope: Within what the feed counts.

    Numbers: ``gaps`` (ranges), ``missing`` (numbers), ``keys`` (symbols or partitions with gaps). Examples: every
    missing range, up to ``MAX_GAPS_SHOWN``, with the times of the messages on either side.
    """
    gaps = sorted((gap for part in parts for gap in missing_ranges(part, scope)), key=lambda gap: (gap.key, gap.first))
    missing = sum(gap.count for gap in gaps)
    keys = len({gap.key for gap in gaps})
    description = f"{missing} sequence numbers are missing, in {len(gaps)} ranges of {keys} keys ({scope})."
    if scope is SequenceScope.NONE:
        description = "The feed has no sequence numbers that could show a gap."
    return Finding(
        check="sequence_gaps",
        passed=not gaps,
        severity=Severity.WARN,
        description=description,
        numbers={"gaps": len(gaps), "missing": missing, "keys": keys},
        examples=tuple(
            {
                "key": gap.key,
                "first": gap.first,
                "last": gap.last,
                "missing": gap.count,
                "before": gap.before_time.isoformat(),
                "after": gap.after_time.isoformat(),
            }
            for gap in gaps[:MAX_GAPS_SHOWN]
        ),
    )


def _repeated_in(part: pa.Table) -> tuple[pl.DataFrame, int]:
    """The trade ids of a part that several messages report, and how many messages those are."""
    rows = _frame(part, ["symbol", "trade_id", "action", "reject_reason", *_PLACE]).with_row_index("row")
    reported = pl.col("reject_reason").is_null() & (pl.col("action") == "NEW") & (pl.col("trade_id") != "")
    repeated = rows_sharing_a_key(rows.filter(reported), ["symbol", "trade_id"])
    return _repeated_ids(repeated, _frame(part.take(repeated["row"].to_arrow()), _CONTENT)), repeated.height


def _repeated_ids(repeated: pl.DataFrame, content: pl.DataFrame) -> pl.DataFrame:
    differs = pl.any_horizontal(pl.col(column).n_unique() > 1 for column in _CONTENT)
    return (
        pl.concat([repeated.with_columns(pl.struct(_PLACE).alias("place")), content], how="horizontal")
        .sort(_PLACE)
        .group_by("symbol", "trade_id")
        .agg(
            pl.len().alias("messages"),
            differs.alias("conflicting"),
            pl.col("place").first().alias("first"),
            pl.col("place").last().alias("last"),
        )
    )


def _place(row: Example) -> str:
    return "{}/{}/{}".format(*(row[column] for column in _PLACE))


def _frame(table: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    frame = pl.from_arrow(table.select(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame
