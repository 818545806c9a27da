"""The admin client's futures give answers, or Kafka's own kind of error."""

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from k2_resources.kafka.answers import answered


def test_an_answer_is_given_and_an_error_of_kafkas_is_raised() -> None:
    future: Future[int] = Future()
    future.set_result(7)
    assert answered(future, 1) == 7
    failed: Future[int] = Future()
    failed.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    with pytest.raises(KafkaException) as raised:
        answered(failed, 1)
    assert raised.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_no_answer_in_time_is_an_error_of_kafkas_too() -> None:
    with pytest.raises(KafkaException, match="no answer within 0 s") as raised:
        answered(Future(), 0.001)
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
