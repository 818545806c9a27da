"""Expires the oldest snapshots within the commit that adds one, so that commits cost the same for ever."""

from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update.snapshot import ExpireSnapshots

from k2_resources.iceberg.catalog import KEPT_SNAPSHOTS


def expire_oldest(transaction: Transaction, table: Table) -> None:
    """Drop the oldest snapshots beyond ``KEPT_SNAPSHOTS`` within a transaction that is to add one.

    Tagged ones stay, and so does the current one, which the new one builds on.
    """
    metadata = table.metadata
    tagged = {reference.snapshot_id for name, reference in metadata.refs.items() if name != MAIN_BRANCH}
    kept_beside = KEPT_SNAPSHOTS - 1 - (metadata.current_snapshot_id is not None)
    free = sorted(
        (
            snapshot
            for snapshot in metadata.snapshots
            if snapshot.snapshot_id not in tagged | {metadata.current_snapshot_id}
        ),
        key=lambda snapshot: snapshot.sequence_number or 0,
    )
    surplus = len(free) - max(0, kept_beside)
    if surplus > 0:
        ExpireSnapshots(transaction).by_ids([snapshot.snapshot_id for snapshot in free[:surplus]]).commit()
