"""Expiring snapshots inside the commit that makes a new one, so that commits cost the same however many there were."""

from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update.snapshot import ExpireSnapshots

from k2_resources.iceberg_catalog import KEPT_SNAPSHOTS


def expire_oldest(transaction: Transaction, table: Table) -> None:
    """Drop the oldest snapshots beyond ``KEPT_SNAPSHOTS`` within a transaction; tagged ones stay."""
    metadata = table.metadata
    tagged = {reference.snapshot_id for name, reference in metadata.refs.items() if name != MAIN_BRANCH}
    free = sorted(
        (snapshot for snapshot in metadata.snapshots if snapshot.snapshot_id not in tagged),
        key=lambda snapshot: snapshot.sequence_number or 0,
    )
    surplus = len(free) - KEPT_SNAPSHOTS + 1
    if surplus > 0:
        ExpireSnapshots(transaction).by_ids([snapshot.snapshot_id for snapshot in free[:surplus]]).commit()
