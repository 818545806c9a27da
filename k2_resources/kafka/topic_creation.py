"""Creates topics explicitly: a topic that the broker creates by itself would delete old messages."""

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from k2_market.errors import K2Error
from k2_market.feeds.feed import Topics
from k2_resources.kafka.answers import answered
from k2_resources.kafka.topics import TIMEOUT_SECONDS, KafkaUnavailable
from k2_resources.logs.structured_logging import kafka_client_logger, kafka_error_callback
from k2_resources.metrics.event_counts import count_call
from k2_resources.runtime.retry_policy import RetryPolicy

_BROKERS_DEFAULT = -1


class TopicRefused(K2Error):
    """The broker does not create a topic."""


@dataclass(frozen=True)
class FeedTopic:
    """A topic as it stands.

    Attributes:
        name: Its name.
        created: Whether it was created just now.
        partitions: How many it has.
        differences: Where it is not what the feed's file asks for, one sentence each. They are left as they are: with
            another number of partitions a symbol would move to another partition, and its order would be lost.
    """

    name: str
    created: bool
    partitions: int
    differences: tuple[str, ...]


def topic_settings(topics: Topics) -> dict[str, str]:
    """Return the settings of a feed's topics: kept by size and never by time.

    Kafka's retention goes by record time, which is the exchange's: with a time limit, trades of the past are deleted
    within minutes of their arrival.
    """
    return {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": str(topics.retention_bytes),
        "message.timestamp.type": "CreateTime",
    }


def ensure_topic(bootstrap_servers: str, name: str, topics: Topics) -> FeedTopic:
    """Return a feed's topic, created if it is not there.

    Args:
        bootstrap_servers: The brokers.
        name: The topic, one of the feed's.
        topics: What the feed's file says of its topics.

    Raises:
        KafkaUnavailable: No broker answered within some seconds.
        TopicRefused: The broker does not allow it.
    """
    admin = _admin(bootstrap_servers)
    try:
        if _create(admin, name, topics):
            return FeedTopic(name, created=True, partitions=topics.partitions, differences=())
        partitions, settings = _RETRY.call(_described, admin, name)
    except KafkaException as error:
        raise _explained(error, bootstrap_servers, name) from error
    return FeedTopic(
        name, created=False, partitions=partitions, differences=_differences(name, topics, partitions, settings)
    )


def ensure_compacted_topic(bootstrap_servers: str, name: str) -> None:
    """See that a topic of one partition is there that keeps the latest record of each key for good.

    Raises:
        KafkaUnavailable: No broker answered within some seconds.
        TopicRefused: The broker does not allow it.
    """
    try:
        topic = NewTopic(name, 1, _BROKERS_DEFAULT, config={"cleanup.policy": "compact"})
        _create_new(_admin(bootstrap_servers), topic)
    except KafkaException as error:
        raise _explained(error, bootstrap_servers, name) from error


def _admin(bootstrap_servers: str) -> AdminClient:
    logger = kafka_client_logger("kafka-admin")
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "socket.timeout.ms": int(TIMEOUT_SECONDS * 1_000),
        "error_cb": kafka_error_callback(logger),
    }
    return AdminClient(settings, logger=logger)


def _create(admin: AdminClient, name: str, topics: Topics) -> bool:
    """Say whether the topic was created; it was not if it is there."""
    return _create_new(admin, NewTopic(name, topics.partitions, _BROKERS_DEFAULT, config=topic_settings(topics)))


def _create_new(admin: AdminClient, topic: NewTopic) -> bool:
    name = topic.topic
    try:
        _answer(admin.create_topics([topic], request_timeout=TIMEOUT_SECONDS)[name])
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    _LEADERS_RETRY.call(_ask_leaders, admin, name)
    return True


def _ask_leaders(admin: AdminClient, name: str) -> None:
    """Ask each Kafka partition of a new topic for its end, which fails until the partition has a leader."""
    described = _answer(admin.describe_topics(TopicCollection([name]))[name])
    ends = {TopicPartition(name, each.id): OffsetSpec.latest() for each in described.partitions}
    for future in admin.list_offsets(ends, request_timeout=TIMEOUT_SECONDS).values():
        _answer(future)


def _described(admin: AdminClient, name: str) -> tuple[int, dict[str, str]]:
    """Tell how many partitions a topic has, and its settings."""
    description = _answer(admin.describe_topics(TopicCollection([name]))[name])
    (settings,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    return len(description.partitions), {key: entry.value for key, entry in _answer(settings).items()}


def _differences(name: str, topics: Topics, partitions: int, settings: dict[str, str]) -> tuple[str, ...]:
    differences = []
    if partitions != topics.partitions:
        differences.append(f"topic {name} has {partitions} partitions, its feed's file says {topics.partitions}")
    for key, wanted in topic_settings(topics).items():
        if settings.get(key) != wanted:
            differences.append(f"topic {name} has {key}={settings.get(key)}, its feed's file asks for {wanted}")
    return tuple(differences)


def _not_known_yet(error: BaseException) -> bool:
    """Say whether the broker does not know a topic that exists: for a moment after it was created, by whomever."""
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def _without_leader_yet(error: BaseException) -> bool:
    """Say whether a topic's partitions are without a leader: for a moment after it was created, longer under load."""
    return isinstance(error, KafkaException) and error.args[0].code() in _NO_LEADER_YET


_NO_LEADER_YET = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)
_RETRY = RetryPolicy(_not_known_yet, retries=5, observe=count_call)
_LEADERS_RETRY = RetryPolicy(_without_leader_yet, retries=7, observe=count_call)


def _answer(future: Any) -> Any:
    return answered(future, 2 * TIMEOUT_SECONDS)


def _explained(error: KafkaException, bootstrap_servers: str, name: str) -> K2Error:
    reason = error.args[0]
    if reason.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
        return KafkaUnavailable(f"Kafka at {bootstrap_servers}: {reason.str()}. Is the broker up (`k2 status`)?")
    return TopicRefused(f"Kafka at {bootstrap_servers}: topic {name} can't be created: {reason.str()}")
