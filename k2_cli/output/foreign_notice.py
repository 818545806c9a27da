"""Warns on stderr, in commands that only read, where the tables of this home are another home's."""

from collections.abc import Iterable

import typer

from k2_market.homes.table_ownership import notice
from k2_market.kinds.shipped import KINDS, tables_of
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.owned_catalog import OwnedCatalog, why_foreign


def warn_of_foreign_tables(catalog: OwnedCatalog, feeds: Iterable[str]) -> None:
    """Say so if the first table that there is of some feeds is another home's: then all are, as in a copied home."""
    found = (
        table for feed in feeds for name in tables_of(KINDS) if (table := find_table(catalog, feed, name)) is not None
    )
    first = next(found, None)
    reason = None if first is None else why_foreign(first)
    if reason is not None:
        typer.secho(f"k2: {notice(reason)}", err=True, fg=typer.colors.YELLOW)
