"""Provides K2's clients as Dagster resources: Iceberg catalog, Kafka, schema registry."""

import dagster as dg
from pyiceberg.catalog import Catalog

from k2_market.kinds.raw_kind import RawKind
from k2_resources.dagster.shared_clients import shared_catalog, shared_registry, shared_topics
from k2_resources.iceberg.day_table import DayTable
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics
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


class KafkaResource(dg.ConfigurableResource[KafkaTopics]):
    """Hands out what asks about topics and what reads them."""

    bootstrap_servers: str

    def topics(self) -> KafkaTopics:
        """Give the process's client that asks about topics."""
        return shared_topics(self.bootstrap_servers)

    def reader(self, topic: str, group: str) -> TopicReader:
        """Return a reader of one topic's offset ranges; ``group`` is named to the broker for monitoring alone."""
        return TopicReader(self.bootstrap_servers, topic, group)


class SchemaRegistryResource(dg.ConfigurableResource[SchemaRegistry]):
    """Hands out the schema registry at ``url``."""

    url: str

    def registry(self) -> SchemaRegistry:
        """Give the process's client of the registry."""
        return shared_registry(self.url)
