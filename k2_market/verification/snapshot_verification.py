"""Verifies I3, and the part of I4 that needs no rows: retained snapshots agree with the ledger and with each other.

Every commit of K2's writes its batch id, its offset ranges and its number of messages into its snapshot's summary, and
the ledger into the table's properties. The two are written together and must stay together: a table rolled back to an
older snapshot has an older history than its ledger, an edited ledger has another one than its snapshots.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import polars as pl

from k2_market.errors import LedgerError
from k2_market.verification.invariants import Invariant, Violation, violation
from k2_market.verification.ledger_claims import LedgerClaims, ledger_claims, parse_ranges
from k2_market.verification.offset_accounts import (
    coalesced,
    difference,
    intersection,
    offsets_in,
    pieces,
    ranges,
    texts,
)

_BATCH_ID, _RANGES, _MESSAGES = "k2.batch-id", "k2.ranges", "k2.messages"


@dataclass(frozen=True)
class RetainedSnapshot:
    """A snapshot that a table's metadata holds; ``sequence`` rises from commit to commit."""

    snapshot_id: int
    parent_id: int | None
    sequence: int
    summary: Mapping[str, str]

    @property
    def batch_id(self) -> str:
        """The batch that K2 committed by it; empty where it was not K2."""
        return self.summary.get(_BATCH_ID, "")

    @property
    def ingests(self) -> bool:
        """Say whether it says which offsets it brought."""
        return _RANGES in self.summary

    @cached_property
    def ranges(self) -> pl.DataFrame:
        """The offsets that it says it brought."""
        return parse_ranges(self.summary.get(_RANGES, ""))

    @property
    def messages(self) -> int:
        """The rows that it says it brought."""
        return self.number(_MESSAGES)

    def number(self, name: str) -> int:
        """Return a number of the summary; Iceberg leaves out those that are zero.

        Raises:
            LedgerError: It is no number.
        """
        try:
            return int(self.summary.get(name, 0))
        except ValueError as error:
            raise LedgerError(f"{self}: {name} is {self.summary[name]!r}, expected a number") from error

    def __str__(self) -> str:
        return f"snapshot {self.snapshot_id}"


@dataclass(frozen=True)
class TableHistory:
    """A table's metadata, as far as verification reads it.

    Attributes:
        current_id: The current snapshot.
        snapshots: All that are kept, in any order.
        ledger: The ledger's text.
        earlier_ledgers: The ledger's text in each earlier metadata file that is still there, oldest first, and the
            file's name.
    """

    current_id: int | None
    snapshots: Sequence[RetainedSnapshot]
    ledger: str | None
    earlier_ledgers: Sequence[tuple[str, str | None]] = ()

    @cached_property
    def chain(self) -> list[RetainedSnapshot]:
        """The current snapshot and those that it builds on, as far as they are kept; newest first."""
        by_id = {each.snapshot_id: each for each in self.snapshots}
        found: list[RetainedSnapshot] = []
        at = self.current_id
        while at is not None and at in by_id and by_id[at] not in found:
            found.append(by_id[at])
            at = by_id[at].parent_id
        return found

    @property
    def reaches_first(self) -> bool:
        """Say whether no snapshot that the current one builds on has been expired: the table's first is number 1."""
        return not self.chain or self.chain[-1].sequence <= 1

    @property
    def beside(self) -> list[RetainedSnapshot]:
        """Snapshots that the current one does not build on, though they are as new as some that it does."""
        oldest = self.chain[-1].sequence if self.chain else -1
        inside = {each.snapshot_id for each in self.chain}
        return [each for each in self.snapshots if each.sequence > oldest and each.snapshot_id not in inside]


def history_violations(history: TableHistory, claims: LedgerClaims) -> list[Violation]:
    """Tell what does not hold between the ledger and the snapshots kept."""
    try:
        found = pieces({"commits": _brought(history.chain), "ledger": claims.covered})
        return [
            *_rolled_back(history, claims),
            *_overlapping(history, found),
            *_not_in_ledger(history, claims),
            *_brought_by_nobody(history, claims, found),
            *_out_of_order(history),
            *_miscounted(history),
            *_gone_back(history, claims),
        ]
    except LedgerError as error:
        return [violation(Invariant.HISTORY, f"what a commit wrote of itself can't be read: {error}", ())]


def _rolled_back(history: TableHistory, claims: LedgerClaims) -> Iterator[Violation]:
    newest = next((each.batch_id for each in history.chain if each.batch_id), "")
    gone = [each for each in history.beside if each.ingests]
    missing = difference(_brought(gone), _brought(history.chain)) if gone else ranges([])
    named = ", ".join(map(str, gone)) or "no snapshot that is kept"
    if newest != claims.batch_id:
        yield violation(
            Invariant.HISTORY,
            f"the ledger ends with batch {claims.batch_id or '(none)'}, the history of the current snapshot with "
            f"{newest or '(none)'}: the table was rolled back, or its ledger was edited. Not in the history are the "
            f"ranges of {named}",
            texts(missing),
            offsets_in(missing),
        )
    elif missing.height:
        yield violation(
            Invariant.HISTORY,
            f"the current snapshot does not build on {named}, which brought these ranges",
            texts(missing),
            offsets_in(missing),
        )


def _overlapping(history: TableHistory, found: pl.DataFrame) -> Iterator[Violation]:
    doubled = coalesced(found.filter(pl.col("commits") > 1))
    if doubled.height:
        both = [each for each in history.chain if intersection(each.ranges, doubled).height]
        yield violation(
            Invariant.HISTORY,
            f"ranges that more than one commit brought: {', '.join(map(str, both))}",
            texts(doubled),
            offsets_in(doubled),
        )


def _not_in_ledger(history: TableHistory, claims: LedgerClaims) -> Iterator[Violation]:
    beside = {each.snapshot_id for each in history.beside}
    commits = [each for each in history.snapshots if each.ingests and each.snapshot_id not in beside]
    if not difference(_brought(commits), claims.covered).height:
        return
    for each in commits:
        left_out = difference(each.ranges, claims.covered)
        if left_out.height:
            yield violation(
                Invariant.HISTORY,
                f"ranges that {each} brought and the ledger does not have: it was set back, or edited",
                texts(left_out),
                offsets_in(left_out),
            )


def _brought_by_nobody(history: TableHistory, claims: LedgerClaims, found: pl.DataFrame) -> Iterator[Violation]:
    """Yield the ledger's remainder must be what expired snapshots can have brought; nothing, where none has expired."""
    remainder = coalesced(found.filter((pl.col("ledger") > 0) & (pl.col("commits") == 0)))
    messages = claims.messages - sum(each.messages for each in history.chain)
    if history.reaches_first:
        if remainder.height:
            yield violation(
                Invariant.HISTORY,
                "ranges of the ledger that no commit brought, though none has been expired",
                texts(remainder),
                offsets_in(remainder),
            )
        if messages:
            yield violation(
                Invariant.ROWS_AND_OFFSETS,
                f"the ledger has {claims.messages} messages, its commits brought {claims.messages - messages}",
                (),
                abs(messages),
            )
    elif not 0 <= messages <= offsets_in(remainder):
        yield violation(
            Invariant.ROWS_AND_OFFSETS,
            f"{messages} messages of the ledger are left to expired commits, which brought {offsets_in(remainder)} "
            "offsets",
            texts(remainder),
            abs(messages),
        )


def _out_of_order(history: TableHistory) -> Iterator[Violation]:
    for newer, older in pairwise(history.chain):
        if newer.sequence <= older.sequence:
            yield violation(
                Invariant.HISTORY,
                f"{newer} builds on {older}, which is not older: numbers {newer.sequence} and {older.sequence}",
                (str(newer.snapshot_id),),
            )


def _miscounted(history: TableHistory) -> Iterator[Violation]:
    for each in history.snapshots:
        added = each.number("added-records")
        if each.ingests and not added == each.messages <= offsets_in(each.ranges):
            yield violation(
                Invariant.ROWS_AND_OFFSETS,
                f"{each} added {added} rows, says {each.messages} messages, from {offsets_in(each.ranges)} offsets",
                texts(each.ranges),
                abs(added - each.messages),
            )
    for newer, older in pairwise(history.chain):
        expected = older.number("total-records") + newer.number("added-records") - newer.number("deleted-records")
        if newer.number("total-records") != expected:
            yield violation(
                Invariant.ROWS_AND_OFFSETS,
                f"{newer} says {newer.number('total-records')} rows in all; {expected} follow from {older}",
                (str(newer.snapshot_id),),
            )


def _gone_back(history: TableHistory, claims: LedgerClaims) -> Iterator[Violation]:
    earlier = [(name, ledger_claims(text)) for name, text in history.earlier_ledgers]
    ledgers = [*earlier, ("the current metadata", claims)]
    for (name, before), (next_name, after) in pairwise(ledgers):
        gone = difference(before.covered, after.covered)
        if gone.height or after.messages < before.messages:
            yield violation(
                Invariant.HISTORY,
                f"the ledger went back from {name} ({before.messages} messages) to {next_name} ({after.messages})",
                texts(gone),
                offsets_in(gone),
            )


def _brought(snapshots: Sequence[RetainedSnapshot]) -> pl.DataFrame:
    """Return the ranges that some commits brought; what two of them brought is in it twice."""
    return pl.concat([ranges([]), *(each.ranges for each in snapshots)])
