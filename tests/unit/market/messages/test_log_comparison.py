"""Rows held against a log by a reading of plain dictionaries."""

from typing import Any

import pyarrow as pa
import pytest
from avro_messages import DAYS, OPEN_MS, SCHEMA_ID, TOPIC_ID, message, trade
from hypothesis import given
from hypothesis import strategies as st

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages import block_decoder
from k2_market.messages.batch import MessageBatch
from k2_market.messages.log_comparison import ComparedOffsets, compared
from k2_market.schemas.avro import TRADE
from k2_market.schemas.message_kinds import TRADE_MESSAGES

GOOD = message(trade())
NO_AVRO = b"no avro"
OF_AN_UNKNOWN_SCHEMA = message(trade(), schema_id=99)


def sent(**changes: Any) -> dict[str, Any]:
    return {"value": GOOD, "key": b"BHP", "timestamp": OPEN_MS, "id": "load", **changes}


def log(messages: dict[int, dict[str, Any]]) -> MessageBatch:
    said = list(messages.values())
    return MessageBatch(
        topic_id=TOPIC_ID,
        partitions=[0] * len(said),
        offsets=list(messages),
        timestamps_ms=[each["timestamp"] for each in said],
        keys=[each["key"] for each in said],
        values=[each["value"] for each in said],
        correlation_ids=[each["id"] for each in said],
    )


def decoded(messages: dict[int, dict[str, Any]], *schemas: int) -> pa.Table:
    return block_decoder.decode(log(messages), TRADE_MESSAGES, dict.fromkeys(schemas, TRADE), DAYS)


def offsets(*found: int) -> RangeSet:
    return RangeSet.of(OffsetRange(TOPIC_ID, 0, each, each + 1) for each in found)


def compare(
    rows: dict[int, dict[str, Any]], now: dict[int, dict[str, Any]], known: tuple[int, ...] = (SCHEMA_ID,)
) -> ComparedOffsets:
    every = offsets(*range(10))
    return compared(every, decoded(rows, SCHEMA_ID), log(now), decoded(now, *known))


def test_what_the_log_has_again_is_the_same_holes_included() -> None:
    both = {1: sent(), 3: sent(value=NO_AVRO), 4: sent(value=None), 7: sent(value=OF_AN_UNKNOWN_SCHEMA, key=None)}
    assert compare(both, both) == ComparedOffsets(same=offsets(*range(10)))


@pytest.mark.parametrize(
    "change",
    [
        {"value": message(trade(trade_id="t-2"))},
        {"value": message(trade(conditions=[]))},
        {"value": message(trade(attributes=None))},
        {"timestamp": OPEN_MS + 1},
        {"id": "another load"},
        {"value": None},
        {"value": OF_AN_UNKNOWN_SCHEMA},
    ],
)
def test_one_thing_that_differs_makes_it_something_else_and_no_neighbour(change: dict[str, Any]) -> None:
    before = {each: sent() for each in range(5)}
    found = compare(before, {**before, 2: sent(**change)})
    assert found.other == offsets(2)
    assert found.same == offsets(0, 1, 3, 4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize("change", [{"value": b"other bytes"}, {"key": b"CBA"}, {"key": None}, {"value": None}])
def test_a_dead_letter_is_known_by_its_bytes(change: dict[str, Any]) -> None:
    dead = {"value": NO_AVRO}
    assert compare({2: sent(**dead)}, {2: sent(**{**dead, **change})}).other == offsets(2)


def test_a_dead_letter_that_would_decode_by_now_is_the_same() -> None:
    both = {2: sent(value=OF_AN_UNKNOWN_SCHEMA)}
    assert compare(both, both, known=(SCHEMA_ID, 99)).same == offsets(*range(10))


def test_a_message_whose_schema_is_gone_is_not_taken_for_something_else() -> None:
    both = {2: sent()}
    found = compare(both, both, known=())
    assert (found.unknown, found.other) == (offsets(2), offsets())


def test_a_message_without_a_row_is_something_else_and_a_row_without_a_message_is_unknown() -> None:
    assert compare({}, {4: sent()}).other == offsets(4)
    assert compare({4: sent()}, {}).unknown == offsets(4)


values = st.sampled_from([GOOD, message(trade(trade_id="t-2")), NO_AVRO, b"", None, OF_AN_UNKNOWN_SCHEMA])
messages = st.builds(sent, value=values, key=st.sampled_from([b"BHP", b"CBA", None]))
logs = st.dictionaries(st.integers(0, 9), messages, max_size=10)


@given(before=logs, now=logs)
def test_every_offset_is_one_of_the_three_and_what_is_the_same_is_so(
    before: dict[int, dict[str, Any]], now: dict[int, dict[str, Any]]
) -> None:
    found = compare(before, now)
    parts = [found.same, found.other, found.unknown]
    assert found.same | found.other | found.unknown == offsets(*range(10))
    assert sum(map(len, parts)) == 10
    for each in range(10):
        if found.same.contains(TOPIC_ID, 0, each):
            was, there = before.get(each), now.get(each)
            assert (was is None) == (there is None)
            assert was is None or there is None or was["value"] == there["value"]
        if before.get(each) == now.get(each):
            assert found.same.contains(TOPIC_ID, 0, each)
