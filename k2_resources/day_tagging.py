"""Tagging a table's state at the end of a trading day, so that it stays readable however many commits follow.

A tag changes no row and no ledger. It is set by a commit without a snapshot, which another writer's commit only delays:
it is tried again, on the snapshot that is current by then.
"""

from datetime import date

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from k2_market.day_tags import TagPlan, plan_tags
from k2_resources.iceberg_catalog import absent_properties, find_table
from k2_resources.table_errors import CatalogUnavailable, in_words

_ATTEMPTS = 10


def tags_to_set(table: Table | None, day: date | None) -> TagPlan:
    """What ``tag_day`` would do with a table."""
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
    retrying = Retrying(
        retry=retry_if_exception_type(CommitFailedException),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    try:
        return retrying(_attempt, catalog, feed, name, day)
    except CommitFailedException as conflict:
        raise CatalogUnavailable(
            f"{feed}.{name}: the end of {day} was not tagged: other writers committed first each time: {conflict}"
        ) from conflict


def _attempt(catalog: Catalog, feed: str, name: str, day: date | None) -> TagPlan:
    table = find_table(catalog, feed, name)
    plan = tags_to_set(table, day)
    snapshot = None if table is None else table.current_snapshot()
    if table is None or snapshot is None:
        return plan
    properties = absent_properties(table)
    if not (plan.added or plan.removed or properties):
        return plan
    with in_words(f"{feed}.{name}", "tagging"):
        transaction = table.transaction()
        tags = ManageSnapshots(transaction)
        if plan.added is not None:
            tags.create_tag(snapshot.snapshot_id, plan.added)
        for each in plan.removed:
            tags.remove_tag(each)
        tags.commit()
        transaction.set_properties(properties)
        transaction.commit_transaction()
    return plan
