"""What can happen to a topic from outside: records deleted, made anew, more partitions, transactions."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from own_feeds import OwnFeed, eventually, wait_until_known
from recorded_producer import RecordedProducer

from k2_market.messages.outgoing import OutgoingMessages
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics

_SECONDS = 30


@dataclass
class TransactionalProducer(RecordedProducer):
    """A producer whose messages count as acknowledged once their transaction is committed."""

    def __post_init__(self) -> None:
        own = {"transactional.id": f"faults-{uuid.uuid4().hex}", "transaction.timeout.ms": 180_000}
        self.settings = {**self.settings, **own}
        super().__post_init__()
        self._producer.init_transactions(_SECONDS)
        self._before = 0

    def begin(self, messages: OutgoingMessages) -> None:
        """Open a transaction and write messages in it; they are in the log when this returns."""
        self._before = len(self.acked)
        self._producer.begin_transaction()
        self.send(messages)
        self.flush()

    def commit(self) -> None:
        """Commit the open transaction."""
        self._producer.commit_transaction(_SECONDS)

    def abort(self) -> None:
        """Abort the open transaction: its messages are as if never sent."""
        self._producer.abort_transaction(_SECONDS)
        del self.acked[self._before :]


def delete_records(own: OwnFeed, before: Mapping[int, int]) -> None:
    """Have the broker delete a topic's records before an offset in each partition, as retention does."""
    wanted = [TopicPartition(own.feed.topics.trades, partition, offset) for partition, offset in before.items()]
    admin = _admin(own)
    for future in admin.delete_records(wanted).values():
        future.result(_SECONDS)


def recreate(own: OwnFeed) -> None:
    """Delete a feed's topic and create it anew: the same name, another id."""
    name, before = own.feed.topics.trades, own.topic().topic_id
    topics = KafkaTopics(own.settings.bootstrap_servers)
    admin = _admin(own)
    admin.delete_topics([name])[name].result(_SECONDS)
    eventually(lambda: topics.state(name) is None, f"{name} is deleted")
    ensure_topic(own.settings.bootstrap_servers, name, own.feed.topics)
    wait_until_known(own.settings.bootstrap_servers, name)
    assert own.topic().topic_id != before


def add_partitions(own: OwnFeed, count: int) -> None:
    """Let a feed's topic have so many partitions."""
    name = own.feed.topics.trades
    admin = _admin(own)
    admin.create_partitions([NewPartitions(name, count)])[name].result(_SECONDS)
    eventually(lambda: len(own.topic().partitions) == count, f"{name} has {count} partitions")


def _admin(own: OwnFeed) -> AdminClient:
    return AdminClient({"bootstrap.servers": own.settings.bootstrap_servers})
