"""Provides the schema registry as a Dagster resource."""

import dagster as dg

from k2_resources.dagster.shared_clients import shared_registry
from k2_resources.kafka.schema_registry import SchemaRegistry


class SchemaRegistryResource(dg.ConfigurableResource[SchemaRegistry]):
    """Hands out the schema registry at ``url``."""

    url: str

    def registry(self) -> SchemaRegistry:
        """Give the process's client of the registry."""
        return shared_registry(self.url)
