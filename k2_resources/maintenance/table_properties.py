"""Sets the properties of new tables on tables that an earlier K2 made."""

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_resources.iceberg.catalog import absent_properties, find_table
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.commit import until_committed

_log = get_logger("maintenance")


def properties_to_set(table: Table | None) -> dict[str, str]:
    """Return the properties that ``complete_properties`` would set."""
    return {} if table is None else absent_properties(table)


def complete_properties(catalog: Catalog, feed: str, name: str) -> dict[str, str]:
    """Set the properties that a table lacks; those that were set, none where there is no table.

    Args:
        catalog: The catalog.
        feed: The table's namespace.
        name: The table's name.

    Raises:
        ForeignTable: The table is another home's.
        CatalogUnavailable: The catalog does not answer, or others commit first each time.
        WarehouseUnavailable: The table's metadata can't be read or written.
    """
    return until_committed(lambda: _attempt(catalog, feed, name), f"{feed}.{name}: its properties were not completed")


def _attempt(catalog: Catalog, feed: str, name: str) -> dict[str, str]:
    table = find_table(catalog, feed, name)
    absent = properties_to_set(table)
    if table is None or not absent:
        return {}
    with translate_errors(f"{feed}.{name}", "setting properties of"):
        transaction = TableTransaction(table)
        transaction.set_properties(absent)
        transaction.commit_transaction()
    _log.info("properties of an earlier version completed", table=f"{feed}.{name}", properties=absent)
    return absent
