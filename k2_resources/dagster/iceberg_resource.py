"""Provides the Iceberg catalog as a Dagster resource."""

import dagster as dg
from pyiceberg.catalog import Catalog

from k2_market.kinds.raw_kind import RawKind
from k2_resources.dagster.shared_clients import shared_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.raw.table import RawTable


class IcebergCatalogResource(dg.ConfigurableResource[Catalog]):
    """Hands out a catalog's tables by feed and name."""

    uri: str
    warehouse: str

    def catalog(self) -> Catalog:
        """Give the process's catalog itself."""
        return shared_catalog(self.uri, self.warehouse)

    def raw_table(self, feed: str, kind: RawKind) -> RawTable:
        """Give the raw table of a kind, with its ledger."""
        return RawTable(self.catalog(), feed, kind)

    def day_table(self, feed: str, name: str) -> DayTable:
        """Return a derived table, whose days are replaced whole."""
        return DayTable(self.catalog(), feed, name)
