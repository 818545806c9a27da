"""Reads the messages that the broker retains of a topic, with a consumer that belongs to no group."""

import time
from datetime import datetime
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from k2_market.errors import K2Error
from k2_market.ledger.topic_state import TopicState
from k2_market.messages.batch import MessageBatch
from k2_market.verification.offset_accounts import ranges
from k2_resources.kafka.answers import answered
from k2_resources.kafka.message_headers import headers_of
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.logs.structured_logging import kafka_client_logger
from k2_resources.proofs.row_chunks import Window

_SILENCE_SECONDS = 60.0
_ANSWER_SECONDS = 20.0
_MESSAGES_PER_CALL = 5_000


class RetentionOvertook(K2Error):
    """The broker removed messages while they were being verified."""


class RetainedMessages:
    """A topic's messages, as ``read_committed`` shows them; to be closed after use."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "k2-verify",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "check.crcs": True,
                "queued.max.messages.kbytes": 32 * 1024,
            },
            logger=kafka_client_logger("kafka-verify"),
        )

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()

    def state(self) -> TopicState | None:
        """Return the topic as it is now; None where there is none.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        return KafkaTopics(self._bootstrap_servers).state(self._topic)

    def day_spans(self, state: TopicState, start: datetime, end: datetime) -> pl.DataFrame:
        """For each partition the offsets from the first record at or after an instant to the first of a later one."""
        topics = KafkaTopics(self._bootstrap_servers)
        starts, ends = topics.offsets_at(state, start), topics.offsets_at(state, end)
        return ranges((state.topic_id, each, starts[each], ends[each]) for each in starts if ends[each] > starts[each])

    def compacted(self) -> bool:
        """Tell whether the broker keeps but the last message of each key.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        admin = AdminClient({"bootstrap.servers": self._bootstrap_servers}, logger=kafka_client_logger("kafka-admin"))
        try:
            found = admin.describe_configs([resource], request_timeout=_ANSWER_SECONDS)[resource]
            return "compact" in str(answered(found, _ANSWER_SECONDS)["cleanup.policy"].value)
        except KafkaException as error:
            raise KafkaUnavailable(
                f"Kafka at {self._bootstrap_servers}, topic {self._topic}: its settings can't be had: "
                f"{error.args[0].str()}. Is the broker up?"
            ) from error

    def read(self, topic_id: str, window: Window) -> MessageBatch:
        """Return all messages whose offsets lie in a window, which must be retained.

        Args:
            topic_id: Goes into the batch; the topic's present id.
            window: The window.

        Raises:
            RetentionOvertook: A partition's start has been removed in the meantime.
            KafkaUnavailable: No broker gave anything for a minute.
        """
        taken = _Taken(topic_id)
        open_ends = {partition: end for partition, (_, end) in window.items()}
        self._consumer.assign([TopicPartition(self._topic, each, start) for each, (start, _) in window.items()])
        heard = time.monotonic()
        while open_ends:
            messages = self._consumer.consume(_MESSAGES_PER_CALL, timeout=0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise KafkaUnavailable(
                    f"Kafka at {self._bootstrap_servers}, topic {self._topic}: nothing for {_SILENCE_SECONDS:.0f} s "
                    f"from partitions {sorted(open_ends)}. Is the broker up?"
                )
            taken.add([each for each in messages if self._is_wanted(each, open_ends, window)])
        self._consumer.unassign()
        return taken.batch()

    def _is_wanted(self, message: Message, open_ends: dict[int, int], window: Window) -> bool:
        """Tell whether it is a message before its partition's end; partitions that are done with are taken out."""
        partition: Any = message.partition()
        offset: Any = message.offset()
        if partition in window and partition not in open_ends:
            return False  # what lies behind the end, and errors of it, were not asked for
        error = message.error()
        if error is None:
            end = open_ends[partition]
            if offset >= end - 1:
                del open_ends[partition]
            return bool(offset < end)
        if error.code() == KafkaError._PARTITION_EOF:
            open_ends.pop(partition, None)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise RetentionOvertook(
                f"{self._topic}/{partition}: {error.str()}: retention removed messages while they were verified. "
                "Verify again"
            )
        elif not error.retriable():
            raise KafkaUnavailable(f"Kafka at {self._bootstrap_servers}, {self._topic}/{partition}: {error.str()}")
        return False


class _Taken:
    """Messages as they come, in lists of plain values, which the garbage collector does not look into."""

    def __init__(self, topic_id: str) -> None:
        self._topic_id = topic_id
        self._partitions: list[int] = []
        self._offsets: list[int] = []
        self._timestamps_ms: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._correlation_ids: list[str | None] = []

    def add(self, messages: list[Message]) -> None:
        """Take some messages."""
        places: list[Any] = [(message.partition(), message.offset()) for message in messages]
        self._partitions += [partition for partition, _ in places]
        self._offsets += [offset for _, offset in places]
        self._timestamps_ms += [message.timestamp()[1] for message in messages]
        self._keys += map(Message.key, messages)
        self._values += map(Message.value, messages)
        self._correlation_ids += map(_correlation_id, headers_of(messages))

    def batch(self) -> MessageBatch:
        """Return all that were taken."""
        return MessageBatch(
            self._topic_id,
            self._partitions,
            self._offsets,
            self._timestamps_ms,
            self._keys,
            self._values,
            self._correlation_ids,
        )


def _correlation_id(headers: Any) -> str | None:
    """Make the correlation id as a row is to have it: 256 characters at most, each of which can be shown."""
    for name, value in headers or ():
        if name == "correlation_id" and isinstance(value, bytes):
            text = value[:1024].decode("utf-8", errors="replace")[:256]
            return "".join(each if each.isprintable() else "\ufffd" for each in text)
    return None
