import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.messages.framing import HEADER_BYTES, frame, framing_fault, schema_id_of


@given(st.integers(0, 2**31 - 1), st.binary(max_size=20))
def test_a_framed_body_has_the_schema_id_and_the_body(schema_id, body):
    value = frame(schema_id, body)

    assert schema_id_of(value) == schema_id
    assert value[HEADER_BYTES:] == body
    assert framing_fault(value) is None


def test_the_frame_is_confluents():
    assert frame(0x01020304, b"body") == b"\x00\x01\x02\x03\x04body"


@pytest.mark.parametrize("schema_id", [-1, 2**31])
def test_an_id_that_no_registry_gives_is_not_framed(schema_id):
    with pytest.raises(ValueError, match=str(schema_id)):
        frame(schema_id, b"")


@given(st.binary(max_size=8))
def test_a_value_has_either_a_schema_id_or_a_fault(value):
    assert (schema_id_of(value) is None) == (framing_fault(value) is not None)


@given(st.binary(min_size=HEADER_BYTES, max_size=12))
def test_a_fault_can_be_told_from_the_header_alone(value):
    assert framing_fault(value) == framing_fault(value[:HEADER_BYTES])


def test_ids_are_signed_as_javas_clients_read_them():
    assert schema_id_of(b"\x00\xff\xff\xff\xff") == -1
