"""Taking messages a part at a time gives what taking them one by one gives."""

from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from k2_market.messages.batch import MessageBatch
from k2_resources.kafka.message_gathering import Cursor, Gathering

Event = tuple[int, int, int | None]
"""Partition, offset, and the code of an event; None for a message."""


def message(partition: int, offset: int, code: int | None) -> Message:
    if code is not None:
        return Message("t", partition, offset, error=KafkaError(code))
    value = None if offset % 7 == 0 else b"value %d" % offset
    headers = [None, [("other", b"x")], [("correlation_id", b"load-%d" % partition)], [("correlation_id", "text")]]
    return Message("t", partition, offset, b"key", value, headers[offset % 4], None, (1, 1_000 + offset))


@dataclass
class OneByOne:
    """The slow reference: reads like the sentence that says what is taken."""

    reading: dict[int, Cursor]
    rows: list[tuple[object, ...]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    failures: list[Message] = field(default_factory=list)

    def take(self, each: Message) -> None:
        partition, offset, error = each.partition(), each.offset(), each.error()
        assert partition is not None
        assert offset is not None
        if partition not in self.reading or partition in self.done:
            return
        cursor = self.reading[partition]
        if error is None and offset < cursor.end:
            self.rows.append((partition, offset, each.timestamp()[1], each.key(), each.value(), named(each)))
            cursor.position = offset + 1
            if cursor.position < cursor.end:
                return
        elif error is None or (error.code() == KafkaError._PARTITION_EOF and offset >= cursor.end):
            cursor.position = cursor.end
        else:
            self.failures.append(each)
        self.done.add(partition)


def named(each: Message) -> str | None:
    headers = each.headers()
    found = [value for name, value in headers or [] if name == "correlation_id" and isinstance(value, bytes)]
    return found[0].decode() if found else None


def rows(batch: MessageBatch) -> list[tuple[object, ...]]:
    numbers = (np.asarray(each).tolist() for each in (batch.partitions, batch.offsets, batch.timestamps_ms))
    return list(zip(*numbers, batch.keys, batch.values, batch.correlation_ids, strict=True))


@st.composite
def calls(draw: st.DrawFn) -> list[list[Event]]:
    """What a consumer hands over: in each partition growing offsets, with holes, ends and errors in between."""
    events: list[Event] = []
    position = dict.fromkeys(range(3), 10)
    for _ in range(draw(st.integers(0, 30))):
        partition = draw(st.integers(0, 2))
        code = draw(st.sampled_from((None, None, None, None, KafkaError._PARTITION_EOF, KafkaError._BAD_MSG)))
        events.append((partition, position[partition], code))
        position[partition] += 0 if code is not None else draw(st.integers(1, 3))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=3)))
    return [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]


@given(calls(), st.dictionaries(st.integers(0, 2), st.integers(11, 40)))
def test_rows_ends_and_failures_are_those_of_taking_each_message_by_itself(
    called: list[list[Event]], ends: dict[int, int]
) -> None:
    cursors = {partition: Cursor(10, end) for partition, end in ends.items()}
    reading, gathered, done, failures = dict(cursors), Gathering("id"), set(), []
    slow = OneByOne({partition: Cursor(10, end) for partition, end in ends.items()})
    for call in called:
        messages = [message(*each) for each in call]
        now_done, failed = gathered.take(messages, reading)
        for partition in now_done:
            del reading[partition]
        done |= now_done
        failures += failed
        for each in messages:
            slow.take(each)
    assert rows(gathered.batch({}).messages) == slow.rows
    assert done == slow.done
    assert [(each.partition(), each.offset()) for each in failures] == [
        (each.partition(), each.offset()) for each in slow.failures
    ]
    assert cursors == slow.reading
    assert gathered.size_bytes == sum(len(value) for row in slow.rows if isinstance(value := row[4], bytes))


def test_a_partition_is_covered_up_to_where_reading_stands_and_holes_with_it() -> None:
    cursors = {0: Cursor(10, 20), 1: Cursor(10, 12)}
    gathered = Gathering("id")
    gathered.take([message(0, 11, None), message(0, 15, None), message(1, 14, None)], cursors)
    assert sorted(map(str, gathered.batch(cursors).covered)) == ["id/0[10,16)", "id/1[10,12)"]
