"""Waits for the answers of Kafka's admin client, which come as futures."""

from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

_T = TypeVar("_T")


def answered(future: "Future[_T]", seconds: float) -> _T:
    """Wait for the answer that a future stands for.

    Args:
        future: As the admin client's methods return it.
        seconds: How long to wait. The client has a limit of its own, which a broker that takes connections and does not
            answer can stretch.

    Raises:
        KafkaException: Kafka's answer is an error, or there was none in time (``_TIMED_OUT``).
    """
    try:
        return future.result(timeout=seconds)
    except TimeoutError as error:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer within {seconds:.0f} s")) from error
