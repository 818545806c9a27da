"""Creates a feed's topics and registry subjects, so that anyone can produce to it at once.

Until they do, a producer of anyone's waits without an error, and the registry takes any schema under the subject.
"""

from collections.abc import Sequence

from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.schemas.avro import subject_of
from k2_market.schemas.message_kinds import QUOTE_MESSAGES
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import FeedTopic, ensure_topic


def declare_topics(
    feed: Feed, kinds: Sequence[RawKind], bootstrap_servers: str, registry: SchemaRegistry
) -> list[FeedTopic]:
    """Create a feed's topics of some kinds where they are not there, and register K2's schema under their subjects.

    Its topic for quotes is among them, though no kind reads it yet.

    A subject is held to BACKWARD_TRANSITIVE from before its first schema. What is there already is left as it is.

    Raises:
        KafkaUnavailable: No broker answered.
        TopicRefused: The broker does not allow it.
        RegistryUnavailable: The registry does not answer.
        SchemaRefused: The subject has schemas that K2's does not go with.
    """
    topics = {feed.topics.quotes: QUOTE_MESSAGES} | {kind.topic_of(feed.topics): kind.messages for kind in kinds}
    declared = []
    for name, messages in topics.items():
        if name is None:
            continue
        registry.register(subject_of(name), messages.avro)
        declared.append(ensure_topic(bootstrap_servers, name, feed.topics))
    return declared
