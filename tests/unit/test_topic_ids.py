"""A topic's id in words: the same as Kafka's own tools print it."""

import base64
import uuid

from confluent_kafka import Uuid
from hypothesis import given
from hypothesis import strategies as st

from k2_resources.kafka.topics import topic_id_text


def of(each: uuid.UUID) -> Uuid:
    return Uuid(*(half - (1 << 64) if half >> 63 else half for half in (each.int >> 64, each.int & (1 << 64) - 1)))


@given(st.uuids())
def test_is_base64_safe_in_urls_so_that_no_slash_stands_in_a_range(each: uuid.UUID) -> None:
    assert topic_id_text(of(each)) == base64.urlsafe_b64encode(each.bytes).decode().rstrip("=")
