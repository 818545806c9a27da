"""A schema that is too large to be looked at is refused in time, however it is too large."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from k2_market.messages.schema_limits import MAX_CHARACTERS, MAX_JSON_DEPTH, MAX_PARTS, size_fault
from k2_market.schemas.avro import QUOTE, TRADE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(levels: int) -> Any:
    found: Any = "string"
    for number in range(levels):
        found = [found] if number % 2 else {"items": found}
    return found


def test_the_schemas_of_k2_are_small() -> None:
    assert size_fault(TRADE) is None
    assert size_fault(QUOTE) is None


@given(json_values)
def test_any_json_has_a_verdict(value: Any) -> None:
    assert size_fault(value) is None


def test_depth_is_told_without_going_down_to_its_end() -> None:
    assert size_fault(nested(MAX_JSON_DEPTH)) is None
    assert size_fault(nested(MAX_JSON_DEPTH + 1)) == "is nested more than 256 levels deep"
    assert size_fault(nested(200_000)) == "is nested more than 256 levels deep"


def test_parts_and_characters_are_counted_whatever_they_are_part_of() -> None:
    assert size_fault([0] * MAX_PARTS) == "has more than 200,000 parts"
    assert size_fault({"doc": "x" * MAX_CHARACTERS}) == "has more than 1,000,000 characters"
    assert size_fault({"x" * MAX_CHARACTERS: None}) == "has more than 1,000,000 characters"
