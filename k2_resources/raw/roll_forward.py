"""Rolls a raw table forward to the snapshot that its ledger belongs to, after someone rolled it back."""

from dataclasses import dataclass
from datetime import date

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.update.snapshot import ManageSnapshots

from k2_market.errors import LedgerError
from k2_market.ledger.ledger import PROPERTY, Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_resources.iceberg.snapshot_summary import BATCH_ID, DAYS, RANGES, RUN_ID
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.commit import commit_once, retry_on_conflict
from k2_resources.raw.rewrite import RawRewriter, repair_run_id
from k2_resources.raw.view import batch_ids, with_new_rows

_log = get_logger("repair")


class CannotRollForward(LedgerError):
    """A table was rolled back, and can't be rolled forward without losing something."""


@dataclass(frozen=True)
class RollForwardPlan:
    """Describes what rolling forward brings back.

    Attributes:
        snapshot_id: The snapshot that the ledger belongs to.
        batch_id: The batch that both name.
        ranges: Offsets whose rows come back, as far as the table remembers them.
        days: Their trading days, likewise.
    """

    snapshot_id: int
    batch_id: str
    ranges: RangeSet
    days: tuple[date, ...]


def roll_forward_plan(table: Table) -> RollForwardPlan | None:
    """Tell where a table is to be rolled forward to; None where it was not rolled back.

    Raises:
        LedgerError: The ledger can't be read.
        CannotRollForward: The ledger's snapshot is gone, or the table was written to since it was rolled back.
    """
    name = ".".join(table.name())
    batch_id = Ledger.from_json(table.properties[PROPERTY]).batch_id if PROPERTY in table.properties else ""
    if next(iter(batch_ids(table)), "") == batch_id:
        return None
    target = max(
        (each for each in table.metadata.snapshots if batch_id and _told(each, BATCH_ID) == batch_id),
        key=_age,
        default=None,
    )
    if target is None:
        raise CannotRollForward(
            f"{name}: the table has no snapshot of batch {batch_id or '(none)'}, with which its ledger ends: it was "
            "expired. Drop the table: what its topic retains is read anew"
        )
    current = table.current_snapshot()
    if current is not None and _age(current) > _age(target):
        raise CannotRollForward(
            f"{name}: snapshot {current.snapshot_id} was written after the table was rolled back; rolling the table "
            f"forward to snapshot {target.snapshot_id}, of batch {batch_id}, would take that back. If nothing in it is "
            "needed, set the table's current snapshot to an earlier one, and roll forward then"
        )
    returning = [each for each in ancestors_of(target, table.metadata) if current is None or _age(each) > _age(current)]
    days = {date.fromisoformat(day) for each in returning for day in _told(each, DAYS).split()}
    ranges = (OffsetRange.parse(text) for each in returning for text in _told(each, RANGES).split())
    return RollForwardPlan(target.snapshot_id, batch_id, RangeSet.of(ranges), tuple(sorted(days)))


def roll_forward(rewriter: RawRewriter, catalog: Catalog) -> RollForwardPlan | None:
    """Roll a table forward; None where it was not rolled back.

    An empty snapshot on top names the days that come back, so that they are reported and built again: trades may
    have been made of them while their rows were away.

    Raises:
        CannotRollForward: It can't be done without losing something.
        CommitOutcomeUnknown: The catalog gave no answer, and does not show the snapshot.
    """
    return retry_on_conflict(lambda: _attempt(rewriter, catalog))


def _attempt(rewriter: RawRewriter, catalog: Catalog) -> RollForwardPlan | None:
    view = rewriter.view()
    assert view.table is not None
    forward = roll_forward_plan(view.table)
    if forward is None:
        return None
    transaction = TableTransaction(view.table)
    ManageSnapshots(transaction).set_current_snapshot(snapshot_id=forward.snapshot_id)
    summary = {RUN_ID: repair_run_id(), DAYS: " ".join(map(str, forward.days))}
    transaction.append(view.schema.empty_table(), snapshot_properties=summary)
    transaction.set_properties(with_new_rows(view.table, forward.days))
    commit_once(transaction, catalog, ".".join(view.table.name()), forward.batch_id, "the table is still rolled back")
    _log.info("table rolled forward", table=".".join(view.table.name()), batch_id=forward.batch_id)
    return forward


def _age(snapshot: Snapshot) -> int:
    """Iceberg numbers a table's commits; what was written later has a greater number."""
    return snapshot.sequence_number or 0


def _told(snapshot: Snapshot, key: str) -> str:
    return "" if snapshot.summary is None else snapshot.summary.additional_properties.get(key, "")
