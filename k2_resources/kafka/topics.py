"""Reads facts about topics: id, watermarks, and the offsets at an instant."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription

from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.values.record_times import instant_of
from k2_resources.kafka.answers import answered
from k2_resources.logs.structured_logging import get_logger, kafka_client_logger
from k2_resources.runtime.retry_policy import RetryPolicy

TIMEOUT_SECONDS = 10.0
_ANSWER_SECONDS = 2 * TIMEOUT_SECONDS
_PEEK_BYTES = 65_536

_log = get_logger("kafka")


class KafkaUnavailable(K2Error):
    """The Kafka brokers did not answer in time."""


class KafkaTopics:
    """Asks a cluster about its topics."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._admin = AdminClient(
            {"bootstrap.servers": bootstrap_servers, "socket.timeout.ms": int(TIMEOUT_SECONDS * 1000)},
            logger=kafka_client_logger("kafka-admin"),
        )

    def state(self, topic: str) -> TopicState | None:
        """Return a topic's identity and the bounds of its partitions' logs; None where there is no such topic.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        description = self._described(topic)
        if description is None:
            return None
        numbers = [partition.id for partition in description.partitions]
        low = self._offsets(topic, dict.fromkeys(numbers, OffsetSpec.earliest()))
        stable = self._offsets(topic, dict.fromkeys(numbers, OffsetSpec.latest()), IsolationLevel.READ_COMMITTED)
        high = self._offsets(topic, dict.fromkeys(numbers, OffsetSpec.latest()))
        return TopicState(
            name=topic,
            topic_id=topic_id_text(description.topic_id),
            partitions=tuple(PartitionState(n, low[n], stable[n], high[n]) for n in sorted(numbers)),
        )

    def topic_id(self, topic: str) -> str | None:
        """Return a topic's id, which is new whenever it is created anew; None where there is no such topic.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        description = self._described(topic)
        return None if description is None else topic_id_text(description.topic_id)

    def offsets_at(self, topic: TopicState, instant: datetime) -> dict[int, int]:
        """Ask for each partition's first offset whose record is at or after an instant; its end where none is.

        An instant before 1970 counts as 1970: to Kafka's protocol, negative timestamps mean something else.
        """
        specification = OffsetSpec.for_timestamp(max(0, int(instant.timestamp() * 1000)))
        found = self._offsets(topic.name, {each.partition: specification for each in topic.partitions})
        return {
            each.partition: found[each.partition] if found[each.partition] >= 0 else each.high
            for each in topic.partitions
        }

    def newest_record(self, topic: TopicState) -> datetime | None:
        """Give the greatest record timestamp in a topic, which is exchange time; None where it holds no record.

        A partition whose greatest is no instant (``record_times``) is left out: its other records can't be asked for.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        asked = {TopicPartition(topic.name, each.partition): OffsetSpec.max_timestamp() for each in topic.partitions}
        try:
            futures = self._admin.list_offsets(asked, request_timeout=TIMEOUT_SECONDS)
            found = [answered(future, _ANSWER_SECONDS).timestamp for future in futures.values()]
        except KafkaException as error:
            raise self._unavailable(error) from error
        return max((instant for each in found if (instant := instant_of(each)) is not None), default=None)

    def mirror(self, topic: str, group: str, covered: RangeSet) -> None:
        """Tell Kafka how far a group has come, for lag monitors alone; nothing of K2's reads it back (#014).

        A failure is logged and no more: rows and ledger are committed by then.

        Args:
            topic: The topic's name.
            group: A group without members.
            covered: The ledger's offsets, those set aside too; of each partition the end of what is there without a
                break counts.
        """
        try:
            state = self.state(topic)
            ends = [] if state is None else _ends_without_break(state, covered)
            if ends:
                request = ConsumerGroupTopicPartitions(group, ends)
                answered(self._admin.alter_consumer_group_offsets([request])[group], _ANSWER_SECONDS)
        except (KafkaException, KafkaUnavailable) as error:
            _log.warning("offsets not mirrored to Kafka", topic=topic, group=group, error=str(error))

    def first_timestamps(self, topic: TopicState, ranges: RangeSet) -> dict[int, datetime]:
        """Read the instant of the first message in each partition's ranges.

        Absent are partitions without a message there, whose first message has a record timestamp that is no instant
        (``record_times``), or whose first batch does not come in time, for whatever reason: what is planned by these
        instants is where a backlog is cut, and no partition may stop that.

        Raises:
            KafkaUnavailable: No partition's message came.
        """
        starts: dict[int, int] = {}
        for each in ranges:
            starts.setdefault(each.partition, each.start)
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": "k2-peek",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                # An answer ends with the batch that exceeds this, so that a slow line brings some partition's first
                # message soon; a smaller limit for a partition would give one partition an answer. The client holds
                # its answers to be no smaller than its messages. What waits is asked for at once.
                "fetch.max.bytes": _PEEK_BYTES,
                "message.max.bytes": _PEEK_BYTES,
                "max.partition.fetch.bytes": 1_048_576,
                "queued.min.messages": 1,
                "fetch.queue.backoff.ms": 5,
            },
            logger=kafka_client_logger("kafka-peek"),
        )
        try:
            consumer.assign([TopicPartition(topic.name, number, start) for number, start in starts.items()])
            return self._first_of_each(consumer, set(starts))
        finally:
            consumer.close()

    def _first_of_each(self, consumer: Consumer, partitions: set[int]) -> dict[int, datetime]:
        found: dict[int, datetime] = {}
        waiting = set(partitions)
        last_found = time.monotonic()
        while waiting:
            for message in consumer.consume(100, timeout=0.05):
                partition = cast("int", message.partition())
                if partition in waiting:
                    waiting.discard(partition)
                    last_found = time.monotonic()
                    consumer.pause([TopicPartition(str(message.topic()), partition)])
                    instant = None if message.error() is not None else instant_of(message.timestamp()[1])
                    if instant is not None:
                        found[partition] = instant
            if time.monotonic() - last_found > TIMEOUT_SECONDS:
                silent = f"no message within {TIMEOUT_SECONDS:.0f} s from partitions {sorted(waiting)}"
                if waiting == partitions:
                    raise KafkaUnavailable(f"Kafka at {self._bootstrap_servers}: {silent}. Is the broker up?")
                _log.warning("planning without some partitions' first messages", reason=silent)
                break
        return found

    def _offsets(
        self,
        topic: str,
        wanted: Mapping[int, OffsetSpec],
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        retry = replace(_RETRY, is_transient=_is_transient_of_described)
        try:
            return retry.call(self._list_offsets, topic, wanted, isolation)
        except KafkaException as error:
            raise self._unavailable(error) from error

    def _list_offsets(self, topic: str, wanted: Mapping[int, OffsetSpec], isolation: IsolationLevel) -> dict[int, int]:
        futures = self._admin.list_offsets(
            {TopicPartition(topic, number): specification for number, specification in wanted.items()},
            isolation_level=isolation,
            request_timeout=TIMEOUT_SECONDS,
        )
        return {each.partition: int(answered(future, _ANSWER_SECONDS).offset) for each, future in futures.items()}

    def _described(self, topic: str) -> TopicDescription | None:
        try:
            return _RETRY.call(self._describe, topic)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self._unavailable(error) from error

    def _describe(self, topic: str) -> TopicDescription:
        return answered(self._admin.describe_topics(TopicCollection([topic]))[topic], _ANSWER_SECONDS)

    def _unavailable(self, error: KafkaException) -> KafkaUnavailable:
        return KafkaUnavailable(f"Kafka at {self._bootstrap_servers}: {error.args[0].str()}. Is the broker up?")


def _ends_without_break(topic: TopicState, covered: RangeSet) -> list[TopicPartition]:
    of_topic = covered.of_topic(topic.topic_id).spans
    firsts = {partition: spans[0] for (_, partition), spans in of_topic.items()}
    return [
        TopicPartition(topic.name, each.partition, firsts[each.partition][1])
        for each in topic.partitions
        if each.partition in firsts and firsts[each.partition][0] <= each.low
    ]


_TRANSIENT = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError._TRANSPORT,
    }
)
"""A leader just being elected, a broker just starting: asking again helps."""


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _TRANSIENT


def _is_transient_of_described(error: BaseException) -> bool:
    """Return the same of a topic that was described: where it has just been made, not all of a broker knows it yet."""
    unknown = isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    return unknown or _is_transient(error)


_RETRY = RetryPolicy(is_transient=_is_transient)


def topic_id_text(topic_id: Uuid) -> str:
    """Return a topic's id as Kafka's tools spell it: URL-safe base64 (KIP-516); librdkafka has ``+`` and ``/``."""
    return str(topic_id).translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")
