"""Provides Kafka as a Dagster resource."""

import dagster as dg

from k2_resources.dagster.shared_clients import shared_topics
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics


class KafkaResource(dg.ConfigurableResource[KafkaTopics]):
    """Hands out what asks about topics and what reads them."""

    bootstrap_servers: str

    def topics(self) -> KafkaTopics:
        """Give the process's client that asks about topics."""
        return shared_topics(self.bootstrap_servers)

    def reader(self, topic: str, group: str) -> TopicReader:
        """Return a reader of one topic's offset ranges; ``group`` is named to the broker for monitoring alone."""
        return TopicReader(self.bootstrap_servers, topic, group)
