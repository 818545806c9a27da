"""Verifies I6: every file that a retained snapshot needs is there, with the size and row count of its metadata."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from k2_market.verification.invariants import Invariant, Violation, violation
from k2_market.verification.ledger_claims import LedgerClaims
from k2_market.verification.snapshot_verification import TableHistory


class FileKind(StrEnum):
    """Describes what a file of a table is."""

    MANIFEST_LIST = "manifest list"
    MANIFEST = "manifest"
    DATA = "data file"
    DELETES = "delete file"


@dataclass(frozen=True)
class FileState:
    """A file that a table's metadata names, and what was found in its place.

    Attributes:
        path: Where it should be.
        kind: What it is.
        snapshot_id: The newest snapshot that needs it.
        bytes_said: Its size by the metadata; None where that has none.
        bytes_found: Its size; None where no file is there.
        rows_said: Its rows by the metadata, of a data file.
        rows_found: Its rows by its own footer; None where that was not read.
        day: The trading day of a data file.
        fault: Why its content can't be read, where that was tried.
    """

    path: str
    kind: FileKind
    snapshot_id: int
    bytes_said: int | None = None
    bytes_found: int | None = None
    rows_said: int | None = None
    rows_found: int | None = None
    day: date | None = None
    fault: str = ""

    @property
    def whole(self) -> bool:
        """Say whether it is there and is what the metadata says."""
        return not self.complaint

    @property
    def complaint(self) -> str:
        """Tell what is wrong with it; empty where nothing is."""
        if self.bytes_found is None:
            return "is not there"
        if self.bytes_said is not None and self.bytes_said != self.bytes_found:
            return f"has {self.bytes_found} bytes, the metadata says {self.bytes_said}"
        if self.fault:
            return f"can't be read: {self.fault}"
        if self.rows_found is not None and self.rows_said != self.rows_found:
            return f"has {self.rows_found} rows, the metadata says {self.rows_said}"
        return "deletes rows of other files, which K2 never does" if self.kind is FileKind.DELETES else ""

    def __str__(self) -> str:
        of_day = "" if self.day is None else f" of {self.day}"
        rows = "" if self.rows_said is None else f", {self.rows_said} rows"
        return f"{self.kind}{of_day} {self.path} {self.complaint}{rows} (snapshot {self.snapshot_id} needs it)"


def file_violations(files: Iterable[FileState]) -> list[Violation]:
    """Return the files that are not what the metadata says."""
    broken = [each for each in files if not each.whole]
    if not broken:
        return []
    return [violation(Invariant.READABLE, f"{len(broken)} files are missing or damaged", map(str, broken))]


def row_count_violations(history: TableHistory, claims: LedgerClaims, rows: Mapping[int, int]) -> list[Violation]:
    """Tell where snapshots, their files and the ledger do not say the same number of rows.

    Args:
        history: The snapshots.
        claims: The ledger.
        rows: For each snapshot the rows that its files have, by its manifests.
    """
    found = [
        violation(
            Invariant.ROWS_AND_OFFSETS,
            f"{each} says {each.number('total-records')} rows in all, its files have {rows[each.snapshot_id]}",
            (str(each.snapshot_id),),
        )
        for each in history.snapshots
        if each.snapshot_id in rows and each.number("total-records") != rows[each.snapshot_id]
    ]
    # A snapshot whose manifests can't be read is a violation of its own.
    current = 0 if history.current_id is None else rows.get(history.current_id, claims.messages)
    if current != claims.messages:
        found.append(
            violation(
                Invariant.ROWS_AND_OFFSETS,
                f"the ledger has {claims.messages} messages, the table {current} rows",
                (),
                abs(claims.messages - current),
            )
        )
    return found
