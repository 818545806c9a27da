"""Verifies I1, I2, I4 and I8: ledger, rows and broker agree on every offset.

Nothing here is taken from what writes the table: ledger and rows come as ranges of offsets, the broker's messages too,
and every statement is one about pieces of offsets (``offset_accounts``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from k2_market.verification.invariants import Invariant, Note, Violation, violation
from k2_market.verification.ledger_claims import LedgerClaims
from k2_market.verification.offset_accounts import (
    coalesced,
    difference,
    intersection,
    offsets_in,
    pieces,
    ranges,
    texts,
)
from k2_market.verification.snapshot_verification import RetainedSnapshot

_NOTHING = ranges([])


@dataclass(frozen=True)
class RowAccount:
    """The rows that were read.

    Attributes:
        rows: Their offsets; an offset with two rows lies in two ranges.
        dead_letters: Those of rows that would not decode.
        day: The trading day whose rows these are; None where they are all of the table's.
    """

    rows: pl.DataFrame
    dead_letters: pl.DataFrame
    day: date | None = None


@dataclass(frozen=True)
class LogAccount:
    """Describes what the broker gives of the topic now, and what of it was read.

    Attributes:
        topic_id: The topic that there is now.
        retained: All that can be read.
        removed: All that retention has removed.
        beyond: Offsets of the ledger at or past the end of the log.
        asked: What was read.
        given: The offsets of messages in it.
        due: Those of them that should be among the rows that were read: all, or those of the day.
        compacted: Whether the broker thins the topic out by key, so that rows outlive their messages.
    """

    topic_id: str
    retained: pl.DataFrame
    removed: pl.DataFrame = field(default_factory=lambda: _NOTHING)
    beyond: pl.DataFrame = field(default_factory=lambda: _NOTHING)
    asked: pl.DataFrame = field(default_factory=lambda: _NOTHING)
    given: pl.DataFrame = field(default_factory=lambda: _NOTHING)
    due: pl.DataFrame = field(default_factory=lambda: _NOTHING)
    compacted: bool = False


def offset_violations(
    claims: LedgerClaims, account: RowAccount, log: LogAccount | None, commits: Sequence[RetainedSnapshot] = ()
) -> list[Violation]:
    """Tell what does not hold between ledger, rows and broker.

    Args:
        claims: The ledger.
        account: The rows.
        log: The broker's; None where it was not asked.
        commits: Snapshots that the current one builds on; looked at where the rows are all of the table's.
    """
    found = _pieces(claims, account, log)
    violations = [*_between_rows_and_ledger(found)]
    if account.day is None:
        violations += [*_missing(claims, found), *_of_commits(commits, account), *_numbers(claims, found)]
    if log is not None:
        violations += [*_between_rows_and_broker(found, log), *_unrecorded(claims, log)]
    return violations


def notes_on_claims(claims: LedgerClaims, account: RowAccount, log: LogAccount | None) -> list[Note]:
    """Tell what the ledger has on record besides rows, and what waits to be read."""
    found = _pieces(claims, account, log)
    empty = found.filter((pl.col("covered") > 0) & (pl.col("rows") == 0)) if account.day is None else found.clear()
    dead = found.filter(pl.col("dead") > 0)
    pending = _NOTHING
    if log is not None:
        pending = difference(difference(difference(log.retained, claims.covered), claims.lost), claims.set_aside)
    return [
        Note(what, texts(each), offsets_in(each))
        for what, each in (
            (
                "holes (no message at these offsets: aborted transactions, control records, compaction)",
                coalesced(empty),
            ),
            ("dead letters" if account.day is None else f"dead letters of {account.day}", coalesced(dead)),
            ("removed by retention before they were read (ledger.lost)", coalesced(claims.lost)),
            ("past the end of a log that the broker lost part of (ledger.truncated)", coalesced(claims.truncated)),
            ("set aside, as dead letters (ledger.set_aside)", intersection(claims.set_aside, claims.covered)),
            ("set aside unread: no row has them (ledger.set_aside)", claims.unread),
            ("pending: the broker has them, the ledger not yet", pending),
        )
        if each.height
    ]


def _pieces(claims: LedgerClaims, account: RowAccount, log: LogAccount | None) -> pl.DataFrame:
    return pieces(
        {
            "covered": claims.covered,
            "lost": claims.lost,
            "truncated": claims.truncated,
            "set_aside": claims.set_aside,
            "rows": account.rows,
            "dead": account.dead_letters,
            "asked": _NOTHING if log is None else log.asked,
            "given": _NOTHING if log is None else log.given,
            "due": _NOTHING if log is None else log.due,
        }
    ).with_columns((pl.col("end") - pl.col("start")).alias("offsets"))


def _between_rows_and_ledger(found: pl.DataFrame) -> Iterator[Violation]:
    doubled = found.filter(pl.col("rows") > 1)
    if doubled.height:
        more = int(doubled.select(((pl.col("rows") - 1) * pl.col("offsets")).sum()).item())
        yield violation(
            Invariant.NOTHING_TWICE, f"{more} rows too many at these offsets", texts(coalesced(doubled)), more
        )
    strays = coalesced(found.filter((pl.col("rows") > 0) & (pl.col("covered") == 0)))
    if strays.height:
        yield violation(
            Invariant.ROWS_AND_OFFSETS,
            "rows at offsets that the ledger does not have",
            texts(strays),
            offsets_in(strays),
        )
    decoded = coalesced(found.filter((pl.col("set_aside") > 0) & (pl.col("rows") > 0) & (pl.col("dead") == 0)))
    if decoded.height:
        yield violation(
            Invariant.NOTHING_SILENT,
            "offsets that the ledger has as set aside, and that have a decoded row",
            texts(decoded),
            offsets_in(decoded),
        )
    settled = (pl.col("covered") > 0) | (pl.col("set_aside") > 0)
    contradicting = coalesced(found.filter((pl.col("covered") > 1) | (settled & (pl.col("lost") > 0))))
    if contradicting.height:
        yield violation(
            Invariant.HISTORY,
            "offsets that the ledger has twice, or as lost though they are covered or were set aside",
            texts(contradicting),
            offsets_in(contradicting),
        )


def _missing(claims: LedgerClaims, found: pl.DataFrame) -> Iterator[Violation]:
    """Yield fewer rows than messages: the offsets without a row, but for those where the broker shows a hole."""
    rows = int(found.select((pl.col("rows") * pl.col("offsets")).sum()).item() or 0)
    if rows != claims.messages:
        empty = found.filter((pl.col("covered") > 0) & (pl.col("rows") == 0))
        holes = (pl.col("asked") > 0) & (pl.col("given") == 0) & (pl.col("truncated") == 0)
        perhaps = coalesced(empty.filter(~holes))
        yield violation(
            Invariant.ROWS_AND_OFFSETS,
            f"{rows} rows were read for the ledger's {claims.messages} messages"
            + ("; at these offsets a row is missing, or there is a hole" if perhaps.height else ""),
            texts(perhaps),
            abs(claims.messages - rows),
        )


def _of_commits(commits: Sequence[RetainedSnapshot], account: RowAccount) -> Iterator[Violation]:
    """Yield each commit's rows are where it said that they are."""
    ingests = {str(each.snapshot_id): each for each in commits if each.ingests and each.ranges.height}
    if not ingests:
        return
    rows = pieces({"rows": account.rows, **{name: each.ranges for name, each in ingests.items()}})
    length = pl.col("end") - pl.col("start")
    for name, each in ingests.items():
        there = rows.filter((pl.col(name) > 0) & (pl.col("rows") > 0))
        count = int(there.select(length.sum()).item() or 0)
        if count != each.messages:
            empty = coalesced(rows.filter((pl.col(name) > 0) & (pl.col("rows") == 0)))
            yield violation(
                Invariant.ROWS_AND_OFFSETS,
                f"{each} brought {each.messages} messages; {count} of its offsets have rows, these have none",
                texts(empty),
                abs(count - each.messages),
            )


def _numbers(claims: LedgerClaims, found: pl.DataFrame) -> Iterator[Violation]:
    """Yield the ledger's own numbers, counted again."""
    dead = int(found.select((pl.col("dead") * pl.col("offsets")).sum()).item() or 0)
    if dead != claims.dead_letters:
        yield violation(
            Invariant.NOTHING_SILENT,
            f"the ledger has {claims.dead_letters} dead letters, the table {dead}",
            texts(coalesced(found.filter(pl.col("dead") > 0))),
            abs(dead - claims.dead_letters),
        )
    covered = int(found.filter(pl.col("covered") > 0)["offsets"].sum())
    if claims.holes != covered - claims.messages:
        yield violation(
            Invariant.NOTHING_SILENT,
            f"the ledger has {claims.holes} holes; {covered} offsets less {claims.messages} messages are "
            f"{covered - claims.messages}",
            (),
            abs(claims.holes - covered + claims.messages),
        )


def _between_rows_and_broker(found: pl.DataFrame, log: LogAccount) -> Iterator[Violation]:
    known = pl.col("truncated") == 0
    lost = coalesced(found.filter((pl.col("due") > 0) & (pl.col("covered") > 0) & (pl.col("rows") == 0) & known))
    if lost.height:
        yield violation(
            Invariant.NOTHING_LOST,
            "messages that the broker gives and the ledger has, without a row",
            texts(lost),
            offsets_in(lost),
        )
    unknown = coalesced(found.filter((pl.col("rows") > 0) & (pl.col("asked") > 0) & (pl.col("given") == 0) & known))
    if unknown.height and not log.compacted:
        yield violation(
            Invariant.CONTENT, "rows at offsets where the broker has no message", texts(unknown), offsets_in(unknown)
        )


def _unrecorded(claims: LedgerClaims, log: LogAccount) -> Iterator[Violation]:
    """Find losses of the broker that the ledger lacks, and recorded losses that are none."""
    removed = difference(difference(difference(log.removed, claims.covered), claims.lost), claims.set_aside)
    beyond = difference(log.beyond, claims.truncated)
    there = intersection(claims.lost, log.retained)
    for what, each in (
        ("removed by retention before they were read, and not in ledger.lost; the next ingest run records it", removed),
        ("past the end of the broker's log, and not in ledger.truncated; the next ingest run records it", beyond),
        ("in ledger.lost, and the broker still has them", there),
    ):
        if each.height:
            yield violation(Invariant.NOTHING_SILENT, f"offsets {what}", texts(each), offsets_in(each))
