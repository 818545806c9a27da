import copy
from typing import Any

import pytest
from avro_messages import SCHEMA_ID, altered, message, trade
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.messages.message_reader import message_reader
from k2_market.messages.reference_decoder import RefusedMessage, reference_decoder
from k2_market.messages.schema_resolution import ReadingPlan, reading_plan
from k2_market.messages.value_buffer import JoinedValues
from k2_market.schemas.avro import TRADE
from k2_market.schemas.message_kinds import TRADE_MESSAGES


def plan(schema: dict[str, Any] = TRADE) -> ReadingPlan:
    found = reading_plan(SCHEMA_ID, copy.deepcopy(schema), TRADE_MESSAGES)
    assert isinstance(found, ReadingPlan)
    return found


def one_by_one(reading: ReadingPlan, values: list[bytes]) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    rows, faults = {}, {}
    decode = reference_decoder(reading)
    for place, value in enumerate(values):
        try:
            rows[place] = decode(value)
        except RefusedMessage as refusal:
            faults[place] = str(refusal)
    return rows, faults


def read(reading: ReadingPlan, values: list[bytes]) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    found = message_reader(reading)(JoinedValues.of(values))
    rows = dict(zip(found.places.tolist(), found.wire.to_pylist(), strict=True))
    for row in rows.values():
        for key, value in row.items():
            if isinstance(value, list) and key == reading.known["attributes"].key:
                row[key] = dict(value)
    return rows, found.faults


WHOLE = [message(trade(trade_id=f"t{place}", attributes=None if place % 3 else {"a": "b"})) for place in range(200)]


def broken(place: int, how: int) -> bytes:
    value = WHOLE[place]
    return (value[:-1], value[:20], value + b"\x00", value[:5] + b"\x01" + value[6:], value + value[5:])[how]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.dictionaries(st.integers(0, 199), st.integers(0, 4), max_size=12))
def test_wherever_messages_are_broken_all_others_are_read(monkeypatch_window, count, breaks):
    values = [broken(place, breaks[place]) if place in breaks else WHOLE[place] for place in range(count)]

    assert read(plan(), values) == one_by_one(plan(), values)


@pytest.fixture(scope="module")
def monkeypatch_window():
    """Windows small enough for these batches to need several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("k2_market.messages.message_reader._WINDOW", 64)
        patch.setattr("k2_market.messages.message_reader._TOO_FEW_TO_HALVE", 4)
        yield


def test_a_branch_out_of_range_in_the_middle_is_found(monkeypatch_window):
    values = list(WHOLE)
    values[99] = values[99].replace(b"\x02\x02\x02a\x02b\x00", b"\x06\x02\x02a\x02b\x00")
    assert values[99] != WHOLE[99]

    rows, faults = read(plan(), values)

    assert faults == {99: "union branch out of range"}
    assert sorted(rows) == [place for place in range(200) if place != 99]


@pytest.mark.parametrize("swallowed", [1, 16, 60])
def test_a_message_that_swallows_the_next_ones_is_at_fault_alone(monkeypatch_window, swallowed):
    schema = altered(TRADE, blob="bytes")
    values = [message(trade(blob=b""), schema)] * 200
    blob = message(trade(blob=b"." * (swallowed * (8 + len(values[0])))), schema)  # as long as they and their guards
    values[16] = blob[: len(values[0]) + 1]

    rows, faults = read(plan(schema), values)

    assert faults == {16: "truncated body"}
    assert len(rows) == 199


def test_messages_that_are_all_broken_are_all_at_fault():
    rows, faults = read(plan(), [value[:-1] for value in WHOLE])

    assert rows == {}
    assert sorted(faults) == list(range(200))


def test_a_wide_union_is_read_by_fastavro_and_refuses_what_is_not_ours():
    wide = altered(TRADE, sequence_number=["null", "long", "string"])
    values = [message(trade(sequence_number=each), wide) for each in (1, None, "x", 2)]

    rows, faults = read(plan(wide), values)

    key = plan(wide).known["sequence_number"].key
    assert {place: row[key] for place, row in rows.items()} == {0: 1, 1: None, 3: 2}
    assert faults == {2: "sequence_number is not the long of its union"}
