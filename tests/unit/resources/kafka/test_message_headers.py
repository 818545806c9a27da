"""Whatever headers hold, a message has a correlation id that can be kept and shown, or none."""

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from k2_resources.kafka.message_headers import MAX_CHARACTERS, correlation_ids

Headers = list[tuple[str, object]]


def with_headers(headers: Headers | None) -> Message:
    return Message("t", 0, 0, b"key", b"value", headers)


def of(headers: Headers | None) -> str | None:
    (found,) = correlation_ids([with_headers(headers)])
    return found


def test_the_first_header_of_the_name_that_has_bytes_counts() -> None:
    assert of([("correlation_id", None), ("correlation_id", b"a"), ("correlation_id", b"b")]) == "a"


def test_there_is_none_without_the_header_or_its_value() -> None:
    assert [of(None), of([]), of([("other", b"a")]), of([("correlation_id", None)])] == [None] * 4


def test_bytes_that_are_not_text_and_control_characters_are_replaced() -> None:
    assert of([("correlation_id", b"\xffa\x00b\x1b[31m\n")]) == "\ufffda\ufffdb\ufffd[31m\ufffd"


def test_a_long_one_is_cut_off_whatever_its_characters_take() -> None:
    for character in "aé語🚀":
        assert of([("correlation_id", (character * 1_000_000).encode())]) == character * MAX_CHARACTERS


def test_twenty_thousand_headers_are_gone_through() -> None:
    headers: Headers = [(f"h{number}", b"x" * 10) for number in range(20_000)]
    assert of([*headers, ("correlation_id", b"last")]) == "last"


@given(st.lists(st.none() | st.lists(st.tuples(st.sampled_from(["correlation_id", "x", ""]), st.none() | st.binary()))))
def test_every_message_has_its_own_and_all_can_be_stored(headers: list[Headers | None]) -> None:
    found = correlation_ids([with_headers(each) for each in headers])
    assert found == [of(each) for each in headers]
    for each in found:
        if each is not None:
            each.encode()
            assert each.isprintable()
            assert len(each) <= MAX_CHARACTERS
