import copy
import io
from typing import Any

import fastavro
import pytest
from avro_messages import SCHEMA_ID, altered, body, message, trade
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.messages.block_reader import BlockReader, wire_schema
from k2_market.messages.framing import frame
from k2_market.messages.schema_resolution import ReadingPlan, reading_plan
from k2_market.messages.value_buffer import JoinedValues
from k2_market.schemas.avro import TRADE
from k2_market.schemas.message_kinds import TRADE_MESSAGES

GOOD = message(trade())


def plan(schema: dict[str, Any] = TRADE) -> ReadingPlan:
    found = reading_plan(SCHEMA_ID, copy.deepcopy(schema), TRADE_MESSAGES)
    assert isinstance(found, ReadingPlan)
    return found


def reader(schema: dict[str, Any] = TRADE) -> BlockReader:
    return BlockReader(plan(schema))


def test_a_block_is_read_into_the_wire_schema_one_row_a_message():
    rows = reader().read(JoinedValues.of([message(trade(trade_id=f"t{place}")) for place in range(5)]))

    assert rows is not None
    assert rows.schema.equals(wire_schema(plan()))
    assert rows.column(plan().known["trade_id"].key).to_pylist() == [f"t{place}" for place in range(5)]


BROKEN = {
    "a byte short": GOOD[:-1],
    "half": GOOD[: len(GOOD) // 2],
    "a byte long": GOOD + b"\x00",
    "two bytes long": GOOD + b"\x00\x00",
    "a guard too long": GOOD + b"\x00" * 8,
    "a message too long": GOOD + GOOD,
    "two bodies in one": GOOD + body(trade()),
    "empty": frame(SCHEMA_ID, b""),
    "nothing": b"",
    "a text of negative length": GOOD[:5] + b"\x01" + GOOD[6:],
    "a text of 2 to the 62 bytes": GOOD[:5] + b"\x80" * 8 + b"\x80\x01",
    "conditions without number": GOOD.replace(b"\x02\x04XT\x00", b"\x80" * 8 + b"\x80\x01"),
    "text that is not UTF-8": GOOD.replace(b"BHP", b"\xff\xfeP"),
    "a third branch": GOOD.replace(b"\x02\x02\nvenue", b"\x04\x02\nvenue"),
    "a fourth branch": GOOD.replace(b"\x02\x02\nvenue", b"\x06\x02\nvenue"),
    "a branch below none": GOOD.replace(b"\x02\x02\nvenue", b"\x03\x02\nvenue"),
    "a branch beyond 32 bits": GOOD.replace(b"\x02\x02\nvenue", b"\x82\x80\x80\x80\x20\x02\nvenue"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("place", [0, 20, 47])
def test_a_broken_message_anywhere_is_noticed_and_the_reader_returns(name, place):
    values = [GOOD] * 48
    assert reader().read(JoinedValues.of(values)) is not None
    assert BROKEN[name] != GOOD

    values[place] = BROKEN[name]

    assert reader().read(JoinedValues.of(values)) is None


@pytest.mark.parametrize("name", [name for name in BROKEN if "branch" not in name and "UTF-8" not in name])
@pytest.mark.parametrize("place", [0, 20, 47, 49])
def test_a_search_comes_to_the_broken_message_and_not_past_it(name, place):
    values = [GOOD] * 50
    values[place] = BROKEN[name]
    found = 0
    for _ in values:
        sound, suspects = reader().sound(JoinedValues.of(values)[found:])
        found += sound
        if suspects:
            break

    assert found <= place < found + suspects


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_search_always_gets_on_and_calls_nothing_sound_that_is_cut(sound_ones):
    values = [GOOD if sound else GOOD[:-1] for sound in sound_ones]

    sound, suspects = reader().sound(JoinedValues.of(values))

    assert 0 < sound + suspects <= len(values)
    assert all(sound_ones[:sound])


def test_a_schema_with_a_type_for_fastavro_alone_is_refused():
    with pytest.raises(ValueError, match="blocks"):
        reader(altered(TRADE, extra=["null", "int", "string"]))


@pytest.mark.parametrize("swallowed", [1, 2, 16, 32])
@pytest.mark.parametrize("place", [0, 15, 16])
def test_a_message_that_swallows_the_next_ones_up_to_a_guard_is_noticed(swallowed, place):
    schema = altered(TRADE, blob="bytes")
    values = [message(trade(blob=b""), schema)] * 64
    values[place] = values[place][:-1] + avro_long(swallowed * (8 + len(values[0])))  # guards between them, headers

    assert reader(schema).read(JoinedValues.of(values)) is None
    sound, suspects = reader(schema).sound(JoinedValues.of(values))
    assert sound + suspects > 0


def avro_long(number: int) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, "long", number)
    return written.getvalue()


def test_branches_in_either_order_are_told_apart():
    schema = altered(TRADE, sequence_number=["long", "null"], corrects_trade_id=["string", "null"])
    numbers = [None, 1, None, 0, -(2**63)]
    texts = ["", None, None, "x", "y"]
    pairs = zip(numbers, texts, strict=True)

    values = [message(trade(sequence_number=number, corrects_trade_id=text), schema) for number, text in pairs]

    rows = reader(schema).read(JoinedValues.of(values))

    assert rows is not None
    known = plan(schema).known
    assert rows.column(known["sequence_number"].key).to_pylist() == numbers
    assert rows.column(known["corrects_trade_id"].key).to_pylist() == texts
