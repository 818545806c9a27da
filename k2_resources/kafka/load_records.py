"""Keeps the records of a feed's loads in a compacted Kafka topic beside its trades: ``<trades topic>.loads``."""

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from k2_market.feeds.feed import Feed
from k2_market.loads.loads import Load, LoadError, loads_of_records
from k2_resources.kafka.topic_creation import ensure_compacted_topic
from k2_resources.kafka.topics import TIMEOUT_SECONDS, KafkaTopics, KafkaUnavailable
from k2_resources.kafka.trade_producer import producer_settings
from k2_resources.logs.structured_logging import kafka_client_logger, kafka_error_callback

_PARTITION = 0
_FLUSH_SECONDS = 30.0


class LoadRecords:
    """Reads and writes what was loaded into a feed."""

    def __init__(self, bootstrap_servers: str, feed: Feed) -> None:
        self._bootstrap_servers = bootstrap_servers
        self.topic = f"{feed.topics.trades}.loads"

    def read(self) -> tuple[Load, ...]:
        """Read all loads, the earliest first; none where nothing was ever loaded.

        Raises:
            KafkaUnavailable: No broker answered.
            LoadError: A record can't be read.
        """
        state = KafkaTopics(self._bootstrap_servers).state(self.topic)
        if state is None:
            return ()
        (partition,) = state.partitions
        return loads_of_records(self._latest_values(partition.low, partition.high))

    def write(self, load: Load) -> None:
        """Write a load, in place of what was written of it before; the topic is made if it is not there.

        Raises:
            KafkaUnavailable: No broker answered.
            TopicRefused: The broker does not create the topic.
            LoadError: The broker did not confirm it.
        """
        ensure_compacted_topic(self._bootstrap_servers, self.topic)
        logger = kafka_client_logger("kafka-producer")
        failures: list[str] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failures.append(error.str())

        settings = {**producer_settings(self._bootstrap_servers), "error_cb": kafka_error_callback(logger)}
        producer = Producer({**settings, "on_delivery": on_delivery}, logger=logger)
        try:
            for key, value in load.to_records().items():
                producer.produce(self.topic, value.encode(), key.encode(), partition=_PARTITION)
        except (BufferError, KafkaException) as error:
            raise LoadError(f"{self.topic}: load {load.load_id} can't be recorded: {error}") from error
        left = producer.flush(_FLUSH_SECONDS)
        if failures or left:
            reason = failures[0] if failures else f"{left} records had no answer"
            raise LoadError(f"{self.topic}: load {load.load_id} was not recorded: {reason}")

    def _latest_values(self, low: int, high: int) -> Mapping[str, str]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": "k2-loads",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            },
            logger=kafka_client_logger("kafka-loads"),
        )
        values: dict[str, str] = {}
        try:
            consumer.assign([TopicPartition(self.topic, _PARTITION, low)])
            last_answer = time.monotonic()
            while True:
                message = consumer.poll(0.1)
                if message is None:
                    if time.monotonic() - last_answer > TIMEOUT_SECONDS:
                        raise KafkaUnavailable(
                            f"Kafka at {self._bootstrap_servers}: no record of {self.topic} within "
                            f"{TIMEOUT_SECONDS:.0f} s. Is the broker up (`k2 status`)?"
                        )
                    continue
                last_answer = time.monotonic()
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return values
                if error is not None:
                    raise KafkaUnavailable(f"{self.topic}: {error.str()}")
                key, value = message.key() or b"", message.value()
                values[key.decode()] = (value or b"").decode()
                if int(message.offset() or 0) >= high - 1:
                    return values
        finally:
            consumer.close()
