"""Tags a table's state at the end of a trading day, so that it stays readable.

A tag changes no row and no ledger. Where another writer commits first it is tried again, on the snapshot that is
current by then.
"""

from datetime import date

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots

from k2_market.plans.day_tags import TagPlan, plan_tags
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.raw.commit import until_committed


def tags_to_set(table: Table | None, day: date | None) -> TagPlan:
    """Tell what ``tag_day`` would do with a table."""
    if table is None or table.current_snapshot() is None:
        return TagPlan(None, ())
    refs = table.metadata.refs.items()
    return plan_tags([each for each, ref in refs if ref.snapshot_ref_type is SnapshotRefType.TAG], day)


def tag_day(catalog: Catalog, feed: str, name: str, day: date | None) -> TagPlan:
    """Tag a table's current snapshot as the end of a day, and remove tags of days that are no longer kept.

    Args:
        catalog: The catalog.
        feed: The table's namespace.
        name: The table's name.
        day: The day; None only removes.

    Raises:
        CatalogUnavailable: The catalog does not answer, or others commit first each time.
        WarehouseUnavailable: The table's metadata can't be read or written.
    """
    return until_committed(
        lambda: _attempt(catalog, feed, name, day), f"{feed}.{name}: the end of {day} was not tagged"
    )


def _attempt(catalog: Catalog, feed: str, name: str, day: date | None) -> TagPlan:
    table = find_table(catalog, feed, name)
    plan = tags_to_set(table, day)
    snapshot = None if table is None else table.current_snapshot()
    if table is None or snapshot is None:
        return plan
    if not (plan.added or plan.removed):
        return plan
    with translate_errors(f"{feed}.{name}", "tagging"):
        transaction = TableTransaction(table)
        tags = ManageSnapshots(transaction)
        if plan.added is not None:
            tags.create_tag(snapshot.snapshot_id, plan.added)
        for each in plan.removed:
            tags.remove_tag(each)
        tags.commit()
        transaction.commit_transaction()
    return plan
