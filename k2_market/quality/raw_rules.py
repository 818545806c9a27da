"""Checks the raw rows of one trading day: duplicates, gaps in sequence numbers, dead letters.

Each goes through the rows of ``RAW_TRADES`` of one trading day and returns a ``Finding``. What is kept is digests, runs
and what was found, so that the memory does not grow with the day as its rows do.

None of them makes bars wrong, since cleaning deals with what they find; all of them are reason to look at the feed.
"""

from collections.abc import Sequence

import polars as pl

from k2_market.feeds.feed import IdScope, SequenceScope
from k2_market.frames.day_batches import DayBatches, compact_frames, frames, plain
from k2_market.frames.repeated_keys import any_repeated, digest, rows_sharing_a_key
from k2_market.quality.finding import MAX_EXAMPLES, Example, Finding, Severity
from k2_market.quality.sequences import missing_ranges
from k2_market.schemas.tables import RAW_TRADES

MAX_GAPS_SHOWN = 1000
"""Missing ranges a finding lists: enough to ask the exchange for all of them on any but a broken day."""

ROWS_AT_ONCE = 500_000
"""Repeated messages that are compared at once; of more, a part after the other."""

_PLACE = ("kafka_topic_id", "kafka_partition", "kafka_offset")
_CONTENT = ("exchange_timestamp", "price", "quantity", "side", "conditions", "currency")
_REPORTED = ("symbol", "trade_id", "action", "reject_reason")
_KEYS = {
    IdScope.SYMBOL: ("symbol", "trade_id"),
    IdScope.VENUE: ("symbol", "exchange", "trade_id"),
    IdScope.FEED: ("trade_id",),
    IdScope.DAY: ("symbol", "trade_id"),
}
"""The columns by which messages of one day are known to report one trade."""


def dead_letters(day: DayBatches) -> Finding:
    """Say whether every message decoded.

    Numbers: ``raw_rows``, ``dead_letters``, ``reasons``. Examples: a reason each, the most frequent first, with its
    count and the place of its first message.
    """
    refused = [batch["reject_reason"] for batch in day("reject_reason")]
    raw_rows, decoded = sum(map(len, refused)), sum(each.null_count for each in refused)
    found = frames(day, ["reject_reason", *_PLACE]) if decoded < raw_rows else ()
    dead = pl.concat([_NO_DEAD_LETTERS, *(rows.drop_nulls("reject_reason") for rows in found)]).sort(_PLACE)
    reasons = (
        dead.group_by("reject_reason")
        .agg(pl.len().alias("messages"), pl.col(_PLACE).first())
        .sort([pl.col("messages"), pl.col("reject_reason")], descending=[True, False])
    )
    return Finding(
        check="dead_letters",
        passed=dead.is_empty(),
        severity=Severity.WARN,
        description=f"{dead.height} of {raw_rows} messages would not decode, for {reasons.height} reasons.",
        numbers={"raw_rows": raw_rows, "dead_letters": dead.height, "reasons": reasons.height},
        examples=tuple(
            {"reason": row["reject_reason"], "messages": row["messages"], "first": _place(row)}
            for row in reasons.head(MAX_EXAMPLES).iter_rows(named=True)
        ),
        sizes=frozenset({"raw_rows"}),
    )


def duplicate_messages(day: DayBatches, rows_at_once: int = ROWS_AT_ONCE, scope: IdScope = IdScope.SYMBOL) -> Finding:
    """Say whether every trade was reported once.

    Args:
        day: The day's rows; first their keys are read, then all of the rows that may repeat one another.
        scope: What trade ids are unique within.
        rows_at_once: Of so many such rows about are compared at once.

    Only ``NEW`` messages with a trade_id can be told to repeat one another.
    Numbers: ``duplicates`` (messages beyond the first of their id), ``repeated_ids``, ``conflicting_ids`` (repeated
    with differing content). Examples: an id each, conflicting ones first, with the places of its first and last
    message.
    """
    key = _KEYS[scope]
    suspects = _repeated_digests(day, key)
    parts = 1 + len(suspects) // rows_at_once
    found = [_repeated_in(day, key, suspects.filter(suspects % parts == part).unique()) for part in range(parts)]
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
        f"{conflicting} ids stand for differing trades, of which one is kept"
        + (
            f"; the feed's file says that ids are unique within a {scope} ([ids] unique_within)."
            if conflicting
            else "."
        ),
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


def sequence_gaps(day: DayBatches, scope: SequenceScope) -> Finding:
    """Say whether the feed's sequence numbers are complete.

    Args:
        day: The day's rows.
        scope: Within what the feed counts.

    Numbers: ``gaps`` (ranges), ``missing`` (numbers), ``keys`` (symbols or partitions with gaps). Examples: every
    missing range, up to ``MAX_GAPS_SHOWN``, with the times of the messages on either side.
    """
    gaps = missing_ranges(day, scope)
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


def _repeated_digests(day: DayBatches, key: Sequence[str]) -> pl.Series:
    """Return the digests of keys, as often as messages have them, that more than one message has.

    Digests have 64 bits. Messages with distinct ones have distinct keys; what shares one is still to be compared.
    """
    digests = pl.concat([_NO_DIGESTS, *(_reported(rows, key)["digest"] for rows in compact_frames(day, _columns(key)))])
    return digests.filter(digests.is_duplicated()) if any_repeated(digests) else digests.clear()


def _columns(key: Sequence[str], *more: str) -> list[str]:
    return list(dict.fromkeys([*_REPORTED, *key, *more]))


def _reported(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the messages that report a trade by its id, each with its key's digest."""
    reports = pl.col("reject_reason").is_null() & (pl.col("action") == "NEW") & (pl.col("trade_id") != "")
    return rows.filter(reports).with_columns(digest(key).alias("digest"))


def _repeated_in(day: DayBatches, key: Sequence[str], digests: pl.Series) -> tuple[pl.DataFrame, int]:
    """Return the trade ids, among keys of some digests, that several messages report, with the number of messages."""
    found = [_NO_MESSAGES]
    if len(digests):
        columns = _columns(key, *_PLACE, *_CONTENT)
        same = pl.col("digest").is_in(digests.implode())
        found += [plain(_reported(rows, key).filter(same)) for rows in compact_frames(day, columns)]
    columns = [*dict.fromkeys([*_KEYS[IdScope.SYMBOL], *key]), *_PLACE, *_CONTENT]
    repeated = rows_sharing_a_key(pl.concat(each.select(columns) for each in found), key)
    return _repeated_ids(repeated, key), repeated.height


def _repeated_ids(repeated: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    differs = pl.any_horizontal(pl.col(column).n_unique() > 1 for column in ("symbol", *_CONTENT))
    return (
        repeated.with_columns(pl.struct(_PLACE).alias("place"))
        .sort(_PLACE)
        .group_by(key)
        .agg(
            *(pl.col(column).first() for column in _KEYS[IdScope.SYMBOL] if column not in key),
            pl.len().alias("messages"),
            differs.alias("conflicting"),
            pl.col("place").first().alias("first"),
            pl.col("place").last().alias("last"),
        )
    )


def _place(row: Example) -> str:
    return "{}/{}/{}".format(*(row[column] for column in _PLACE))


def _no_rows(*columns: str) -> pl.DataFrame:
    frame = pl.from_arrow(RAW_TRADES.empty_table().select(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


_NO_DIGESTS = pl.Series("digest", dtype=pl.UInt64)
_NO_DEAD_LETTERS = _no_rows("reject_reason", *_PLACE)
_NO_MESSAGES = _no_rows("symbol", "exchange", "trade_id", *_PLACE, *_CONTENT)
