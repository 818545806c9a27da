"""Checks that a raw table is consistent: snapshots and ledger agree, and a day's files exist."""

from collections.abc import Sequence
from datetime import date

from k2_market.errors import LedgerError
from k2_market.quality.finding import MAX_EXAMPLES, Finding, Severity
from k2_market.quality.ledger_checks import LEDGER_VERIFIED
from k2_market.verification.file_verification import FileKind, FileState, file_violations
from k2_market.verification.invariants import Invariant, Violation, violation
from k2_market.verification.ledger_claims import ledger_claims
from k2_market.verification.snapshot_verification import TableHistory, history_violations


def ledger_verified(day: date, history: TableHistory, files: Sequence[FileState]) -> Finding:
    """Check that retained snapshots and ledger agree on the offsets, and that the day's files exist.

    It finds a table that was rolled back, a ledger that was edited, a file that was deleted or cut short. Rows are not
    read: ``offsets_reconcile`` counts them, and ``k2 verify ledger`` holds them against the broker.

    Args:
        day: The trading day looked at.
        history: The table's snapshots and ledger.
        files: The manifests of the current snapshot, the day's data files, and the manifest lists of all snapshots.
    """
    found = _violations(history, files)
    of_day = [each for each in files if each.kind is FileKind.DATA]
    by_invariant = {each: [one for one in found if one.invariant is each] for each in Invariant}
    return Finding(
        check=LEDGER_VERIFIED,
        passed=not found,
        severity=Severity.ERROR,
        description=_describe(day, found, history, of_day),
        numbers={
            "snapshots": len(history.snapshots),
            "files_of_day": len(of_day),
            "broken_history": len(by_invariant[Invariant.HISTORY]),
            "broken_counts": len(by_invariant[Invariant.ROWS_AND_OFFSETS]),
            "broken_files": sum(each.count for each in by_invariant[Invariant.READABLE]),
        },
        examples=tuple(
            {"invariant": each.invariant.value, "what": each.what, "where": place}
            for each in found
            for place in (each.where or ("",))
        )[:MAX_EXAMPLES],
        sizes=frozenset({"snapshots", "files_of_day"}),
    )


def _violations(history: TableHistory, files: Sequence[FileState]) -> list[Violation]:
    try:
        claims = ledger_claims(history.ledger)
    except LedgerError as error:
        return [violation(Invariant.HISTORY, str(error), ()), *file_violations(files)]
    return [*history_violations(history, claims), *file_violations(files)]


def _describe(day: date, found: list[Violation], history: TableHistory, of_day: list[FileState]) -> str:
    if found:
        return f"{'; '.join(each.what for each in found)}.".capitalize()
    return (
        f"{len(history.snapshots)} snapshots and the ledger fit together; the {len(of_day)} files of {day} are there."
    )
