"""Verifies a raw table: gathers what ledger, snapshots, files, rows and broker say, and compares them.

The judgement is ``k2_market``'s (``snapshot_verification``, ``file_verification``, ``ledger_verification``,
``message_comparison``); here is what reads, and none of what writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import polars as pl
from pyiceberg.table import Table

from k2_market.errors import K2Error, LedgerError
from k2_market.homes.table_ownership import notice
from k2_market.kinds.raw_kind import RawKind
from k2_market.verification.file_verification import FileState, file_violations, row_count_violations
from k2_market.verification.invariants import Invariant, Verification, Violation, violation
from k2_market.verification.ledger_claims import LedgerClaims, ledger_claims
from k2_market.verification.ledger_verification import LogAccount, RowAccount, notes_on_claims, offset_violations
from k2_market.verification.message_comparison import Comparison
from k2_market.verification.offset_accounts import offsets_in, ranges
from k2_market.verification.snapshot_verification import TableHistory, history_violations
from k2_resources.iceberg.owned_catalog import why_foreign
from k2_resources.proofs.log_reading import LogReading
from k2_resources.proofs.row_chunks import RowChunks
from k2_resources.proofs.snapshot_files import SnapshotFiles, snapshot_files
from k2_resources.proofs.table_history import history_of, with_earlier_ledgers

_NOTHING = ranges([])


def prove_ledger(table: Table, kind: RawKind, reading: LogReading | None, day: date | None = None) -> Verification:
    """Return all that can be verified of a raw table as it was loaded.

    Args:
        table: The table.
        kind: What it holds.
        reading: How the broker is read; None leaves it alone.
        day: Rows and messages of this trading day alone; None for all.
    """
    history = with_earlier_ledgers(history_of(table), table)
    foreign = _of_owner(table)
    try:
        claims = ledger_claims(history.ledger)
    except LedgerError as error:
        return Verification(_subject(table, day), {}, (violation(Invariant.HISTORY, str(error), ()), *foreign))
    kept = snapshot_files(table, day)
    chunks = RowChunks.of(table, kind.messages.rows, kept.readable)
    account = _rows(chunks, day)
    answer = _ask(reading, claims, account, chunks) if kept.current is not None else _Answer(None)
    files = [replace(each, fault=chunks.damaged.get(each.path, each.fault)) for each in kept.files]
    return Verification(
        subject=_subject(table, day),
        looked_at=_looked_at(history, account, files, answer),
        violations=(
            *history_violations(history, claims),
            *file_violations(files),
            *row_count_violations(history, claims, kept.rows),
            *_of_rows(history, claims, kept, account, answer.log),
            *_of_content(answer.comparison),
            *foreign,
        ),
        notes=tuple(notes_on_claims(claims, account, answer.log)),
        not_looked_at=(*_out_of_sight(kept, reading, day), *answer.not_looked_at),
        unanswered=answer.unanswered,
    )


@dataclass(frozen=True)
class _Answer:
    """Describes what the broker had to say; ``log`` is None where it said nothing."""

    log: LogAccount | None
    comparison: Comparison | None = None
    not_looked_at: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()


def _ask(reading: LogReading | None, claims: LedgerClaims, account: RowAccount, chunks: RowChunks) -> _Answer:
    if reading is None:
        return _Answer(None)
    try:
        log = reading.read(claims, account, chunks)
    except K2Error as error:
        return _Answer(None, unanswered=(str(error),))
    comparison = None if log is None else reading.comparison
    return _Answer(log, comparison, tuple(reading.not_looked_at))


def _rows(chunks: RowChunks, day: date | None) -> RowAccount:
    found = list(chunks.offsets())
    rows, dead = ([each[side] for each in found] for side in (0, 1))
    return RowAccount(rows=_together(rows), dead_letters=_together(dead), day=day)


def _of_rows(
    history: TableHistory, claims: LedgerClaims, kept: SnapshotFiles, account: RowAccount, log: LogAccount | None
) -> Sequence[Violation]:
    return () if kept.current is None else offset_violations(claims, account, log, history.chain)


def _of_owner(table: Table) -> Sequence[Violation]:
    reason = why_foreign(table)
    return () if reason is None else (violation(Invariant.OWNED, notice(reason), (table.location(),)),)


def _of_content(comparison: Comparison | None) -> Sequence[Violation]:
    if comparison is None or not comparison.differing:
        return ()
    what = f"{comparison.differing} rows do not say what their messages say"
    return (violation(Invariant.CONTENT, what, map(str, comparison.examples), comparison.differing),)


def _looked_at(
    history: TableHistory, account: RowAccount, files: Sequence[FileState], answer: _Answer
) -> dict[Invariant, str]:
    snapshots, rows = len(history.snapshots), offsets_in(account.rows)
    commits = sum(each.ingests for each in history.snapshots)
    seen = {
        Invariant.NOTHING_TWICE: f"{rows:,} rows",
        Invariant.HISTORY: f"{commits} commits kept, {len(history.earlier_ledgers) + 1} ledgers",
        Invariant.ROWS_AND_OFFSETS: f"{rows:,} rows, {commits} commits kept",
        Invariant.READABLE: f"{len(files):,} files of {snapshots} snapshots",
        Invariant.NOTHING_SILENT: f"{rows:,} rows, the ledger",
        Invariant.OWNED: "its place and its mark",
    }
    if answer.log is not None and answer.comparison is not None:
        seen[Invariant.NOTHING_LOST] = f"{offsets_in(answer.log.given):,} messages of the broker"
        seen[Invariant.CONTENT] = f"{answer.comparison.compared:,} rows and messages"
    return seen


def _out_of_sight(kept: SnapshotFiles, reading: LogReading | None, day: date | None) -> list[str]:
    left_out = []
    if kept.current is None:
        left_out.append("rows and broker: the manifests of the current snapshot can't be read")
    elif reading is None:
        left_out.append("the broker, as asked: neither I1 nor I5, and nothing that is pending")
    if day is not None:
        left_out.append(
            f"rows, data files and messages of other days than {day}, and messages of it that were sent on another day "
            "and have no row; holes; the number of dead letters"
        )
    return left_out


def _together(found: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([_NOTHING, *found])


def _subject(table: Table, day: date | None) -> str:
    return ".".join(table.name()) + ("" if day is None else f" on {day}")
