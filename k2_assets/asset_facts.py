"""Tells Dagster's catalog of assets what a feed's tables are: columns, names, places, owners, tags."""

import re
from collections.abc import Iterable
from typing import Any, TypedDict

import dagster as dg
import pyarrow as pa

from k2_market.feeds.feed import Feed
from k2_market.schemas.tables import COLUMN_DESCRIPTIONS


class TableFacts(TypedDict):
    """Arguments of an asset of a table, by the names that Dagster has for them."""

    metadata: dict[str, Any]
    tags: dict[str, str]
    owners: list[str]


def table_facts(feed: Feed, table: str, schema: pa.Schema, layer: str) -> TableFacts:
    """Give what is to be known of a feed's Iceberg table before it has a row.

    Args:
        feed: The feed.
        table: The table's name within the feed's namespace.
        schema: Its columns.
        layer: How far from the exchange's messages it is: ``raw``, ``clean`` or ``bars``.
    """
    return {
        "metadata": {
            "dagster/column_schema": column_schema(schema),
            "dagster/table_name": f"{feed.name}.{table}",
            "calendar": feed.calendar,
        },
        "tags": {**feed_tags(feed), "layer": layer, "dagster/storage_kind": "iceberg"},
        "owners": owners_of(feed),
    }


def feed_tags(feed: Feed) -> dict[str, str]:
    """Tag what belongs to a feed with its exchange and asset class; Dagster takes letters, digits and ``_.-``."""
    return {"exchange": re.sub(r"[^A-Za-z0-9_.-]", "_", feed.exchange), "asset_class": feed.asset_class.value}


def owners_of(feed: Feed) -> list[str]:
    """List who answers for a feed."""
    return [] if feed.owner is None else [feed.owner]


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """Describe the columns of an Arrow schema: name, type, whether there may be nulls, and what each holds."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                str(field.type),
                description=COLUMN_DESCRIPTIONS.get(field.name),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def placed(assets: Iterable[dg.AssetsDefinition], warehouse: str) -> list[dg.AssetsDefinition]:
    """Add to each table's asset where its files lie in a warehouse."""

    def with_place(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.metadata.get("dagster/table_name")
        if name is None:
            return spec
        place = f"{warehouse.rstrip('/')}/{str(name).replace('.', '/')}"
        return spec.merge_attributes(metadata={"dagster/uri": dg.MetadataValue.text(place)})

    return [asset.map_asset_specs(with_place) for asset in assets]
