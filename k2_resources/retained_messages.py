"""What the broker still gives of a topic, read for verification: with a consumer of its own, and no group's memory."""

import time
from datetime import datetime
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from k2_market.errors import K2Error
from k2_market.message_batch import MessageBatch
from k2_market.offset_accounts import ranges
from k2_market.topic_state import TopicState
from k2_resources.kafka_topics import KafkaTopics, KafkaUnavailable
from k2_resources.structured_logging import kafka_client_logger

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
        """The topic as it is now; None where there is none.

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
        """Whether the broker keeps but the last message of each key."""
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        admin = AdminClient({"bootstrap.servers": self._bootstrap_servers}, logger=kafka_client_logger("kafka-admin"))
        found = admin.describe_configs([resource], request_timeout=_ANSWER_SECONDS)[resource]
        return "compact" in str(found.result(timeout=_ANSWER_SECONDS)["cleanup.policy"].value)

    def read(self, topic_id: str, window: dict[int, tuple[int, int]]) -> MessageBatch:
        """All messages whose offsets lie in a window, which must be retained.

        Args:
            topic_id: Goes into the batch; the topic's present id.
            window: Partition to its ``(start, end)``.

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
            for message in messages:
                self._take(message, open_ends, taken)
        self._consumer.unassign()
        return taken.batch()

    def _take(self, message: Message, open_ends: dict[int, int], taken: "_Taken") -> None:
        partition: Any = message.partition()
        offset: Any = message.offset()
        error = message.error()
        if partition not in open_ends and error is None:
            return
        if error is None:
            if offset < open_ends[partition]:
                taken.add(message)
            if offset >= open_ends[partition] - 1:
                del open_ends[partition]
        elif error.code() == KafkaError._PARTITION_EOF:
            open_ends.pop(partition, None)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise RetentionOvertook(
                f"{self._topic}/{partition}: {error.str()}: retention removed messages while they were verified. "
                "Verify again"
            )
        elif not error.retriable():
            raise KafkaUnavailable(f"Kafka at {self._bootstrap_servers}, {self._topic}/{partition}: {error.str()}")


class _Taken:
    """Messages as they come."""

    def __init__(self, topic_id: str) -> None:
        self._topic_id = topic_id
        self._messages: list[tuple[Any, Any, int, bytes | None, bytes | None, str | None]] = []

    def add(self, message: Message) -> None:
        self._messages.append(
            (
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                message.value(),
                _correlation_id(message),
            )
        )

    def batch(self) -> MessageBatch:
        columns: list[list[Any]] = [list(each) for each in zip(*self._messages, strict=True)] or [[] for _ in range(6)]
        return MessageBatch(self._topic_id, *columns)


def _correlation_id(message: Message) -> str | None:
    headers = message.headers() or []
    named = headers.items() if isinstance(headers, dict) else headers
    found = next((value for name, value in named if name == "correlation_id" and isinstance(value, bytes)), None)
    return None if found is None else found.decode("utf-8", errors="replace")
