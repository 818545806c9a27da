"""Creates a feed's topics and registry subjects, so that anyone can produce to it at once.

Until they do, a producer of anyone's waits without an error, and the registry takes any schema under the subject.
"""

from k2_market.feeds.feed import Feed
from k2_market.schemas.avro import MessageKind, schema_of, subject_of
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import FeedTopic, ensure_topic


def declare_topics(feed: Feed, bootstrap_servers: str, registry: SchemaRegistry) -> list[FeedTopic]:
    """Create a feed's topics where they are not there, and register K2's schema under their subjects.

    A subject is held to BACKWARD_TRANSITIVE from before its first schema. What is there already is left as it is.

    Raises:
        KafkaUnavailable: No broker answered.
        TopicRefused: The broker does not allow it.
        RegistryUnavailable: The registry does not answer.
        SchemaRefused: The subject has schemas that K2's does not go with.
    """
    topics = [(feed.topics.trades, MessageKind.TRADES)]
    if feed.topics.quotes is not None:
        topics.append((feed.topics.quotes, MessageKind.QUOTES))
    declared = []
    for name, kind in topics:
        registry.register(subject_of(name), schema_of(kind))
        declared.append(ensure_topic(bootstrap_servers, name, feed.topics))
    return declared
