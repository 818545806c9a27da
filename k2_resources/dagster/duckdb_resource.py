"""Provides DuckDB over the catalog's tables as a Dagster resource."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import Field

from k2_market.kinds.shipped import KINDS, tables_of
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.query.duckdb_connection import CONNECTION_CONFIG, make_ready, seal
from k2_resources.query.views import create_views


class QueryResource(DuckDBResource):
    """Hands out connections that have the views ``<feed>.<table>`` and can reach their tables and nothing else."""

    catalog: dg.ResourceDependency[IcebergCatalogResource]
    spill_directory: str
    database: str = ":memory:"
    connection_config: dict[str, Any] = Field(default=dict(CONNECTION_CONFIG))

    @contextmanager
    def query_connection(
        self, feeds: Iterable[str], *, tables: Collection[tuple[str, str]] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection, closed at the end; arguments and errors as for ``open_query_connection``."""
        with self.get_connection() as connection:
            make_ready(connection, Path(self.spill_directory))
            seal(connection, create_views(connection, self.catalog.catalog(), feeds, tables_of(KINDS), tables=tables))
            yield connection
