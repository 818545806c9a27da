"""What is made of a broker's answers about a topic that is just being made or deleted."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Uuid

from k2_resources.kafka import topics as kafka_topics
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable

NOT_KNOWN = KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))


class Answers(KafkaTopics):
    """A broker that describes a topic, if it is there, and does not know its partitions at first."""

    def __init__(self, *, there: bool, unknown: int) -> None:
        self._bootstrap_servers = "simulated"
        self._there = there
        self._unknown = unknown

    def _describe(self, topic: str) -> Any:
        if not self._there:
            raise NOT_KNOWN
        return SimpleNamespace(topic_id=Uuid(0, 1), partitions=[SimpleNamespace(id=0)])

    def _list_offsets(self, topic: str, wanted: Mapping[int, Any], isolation: IsolationLevel) -> dict[int, int]:
        self._unknown -= 1
        if self._unknown >= 0:
            raise NOT_KNOWN
        return dict.fromkeys(wanted, 7)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_topics, "_RETRY", replace(kafka_topics._RETRY, sleep=lambda _: None))


@pytest.mark.parametrize("unknown", [0, 1, 3])
def test_a_topic_that_has_just_been_made_is_asked_for_again_until_its_partitions_are_known(unknown: int) -> None:
    state = Answers(there=True, unknown=unknown).state("trades")
    assert state is not None
    assert [(each.low, each.high) for each in state.partitions] == [(7, 7)]


def test_a_topic_whose_partitions_stay_unknown_is_an_error() -> None:
    with pytest.raises(KafkaUnavailable, match="Unknown topic or partition"):
        Answers(there=True, unknown=99).state("trades")


def test_a_topic_that_is_not_there_is_none_at_once() -> None:
    assert Answers(there=False, unknown=0).state("trades") is None
