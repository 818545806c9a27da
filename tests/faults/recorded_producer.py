"""A producer that keeps what the broker acknowledged: the one account of a topic that K2 has no hand in."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka import KafkaError, Message, Producer

from k2_market.messages.outgoing import OutgoingMessages
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.kafka.trade_producer import producer_settings


@dataclass(frozen=True)
class Acked:
    """A message that a broker acknowledged, and where it is."""

    topic_id: str
    partition: int
    offset: int
    value: bytes | None


@dataclass
class RecordedProducer:
    """Sends messages and records every acknowledgement.

    Attributes:
        bootstrap_servers: Where the broker is.
        topic: The topic; must be there.
        acked: What was acknowledged so far, in the order of acknowledgement.
        refused: Errors of messages that were not acknowledged.
    """

    bootstrap_servers: str
    topic: str
    settings: dict[str, Any] = field(default_factory=dict)
    acked: list[Acked] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    topic_id: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._producer = Producer(
            {**producer_settings(self.bootstrap_servers), "delivery.report.only.error": False, **self.settings}
        )
        self.look_at_topic()

    def look_at_topic(self) -> None:
        """Take the topic's id anew; to be called after it was created anew."""
        state = KafkaTopics(self.bootstrap_servers).state(self.topic)
        assert state is not None, f"no topic {self.topic}"
        self.topic_id = state.topic_id

    def send(self, messages: OutgoingMessages, *, partition: int | None = None) -> None:
        """Hand messages over, waiting while the queue is full; acknowledgements are recorded as they come."""
        where = {} if partition is None else {"partition": partition}
        for key, value, timestamp in zip(messages.keys, messages.values, messages.timestamps_ms, strict=True):
            while True:
                try:
                    self._producer.produce(
                        self.topic, value, key, timestamp=timestamp, on_delivery=self._delivered, **where
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)

    def send_evenly(self, batches: Iterable[OutgoingMessages], messages_per_second: int) -> None:
        """Send batches at a steady rate; a broker that is down delays, and loses nothing."""
        due = time.monotonic()
        for batch in batches:
            self.send(batch)
            due += len(batch) / messages_per_second
            while (left := due - time.monotonic()) > 0:
                self._producer.poll(min(left, 0.1))

    def flush(self, seconds: float = 60.0) -> None:
        """Wait until nothing is unanswered."""
        unanswered = self._producer.flush(seconds)
        assert not unanswered, f"{unanswered} messages to {self.topic} had no answer after {seconds:.0f} s"

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        with self._lock:
            if error is not None:
                self.refused.append(error.str())
                return
            self.acked.append(
                Acked(self.topic_id, cast("int", message.partition()), cast("int", message.offset()), message.value())
            )
