import json
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_cli.output.exact_values import json_values, texts
from k2_market.schemas.tables import NOTIONAL, PRICE, TIMESTAMP

prices = st.integers(-(10**18) + 1, 10**18 - 1).map(lambda units: Decimal(units).scaleb(-PRICE.scale))


@given(st.lists(st.none() | prices, max_size=20))
def test_decimals_keep_every_digit_and_never_have_an_exponent(values: list[Decimal | None]) -> None:
    shown = texts(pa.array(values, PRICE))
    assert [None if text is None else Decimal(text) for text in shown] == values
    for text in shown:
        assert text is None or (text.partition(".")[2].isdigit() and len(text.partition(".")[2]) == PRICE.scale)


@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), max_size=20))
def test_timestamps_keep_their_microseconds_and_say_that_they_are_utc(values: list[datetime]) -> None:
    shown = texts(pa.array([value.replace(tzinfo=UTC) for value in values], TIMESTAMP))
    assert [datetime.fromisoformat(text or "") for text in shown] == [value.replace(tzinfo=UTC) for value in values]
    assert all(text is not None and text.endswith("Z") for text in shown)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("true", "true"),
        ("DATE '2014-03-11'", "2014-03-11"),
        ("TIMESTAMP '2014-03-11'", "2014-03-11T00:00:00.000000"),
        ("'\\x00\\xFF'::BLOB", "00ff"),
        ("[1.50, NULL]", '["1.50", null]'),
        ("MAP {'a': 'ü'}", '{"a": "ü"}'),
        ("{'a': 1, 'b': DATE '2014-03-11'}", '{"a": 1, "b": "2014-03-11"}'),
        ("INTERVAL 1 MINUTE", "P0M0DT60S"),
        ("INTERVAL '1 month 2 days 0.25 seconds'", "P1M2DT0.25S"),
        ("'red'::ENUM ('red')", "red"),
        ("sum(x) FROM range(3) r(x)", "3"),
        ("1e0", "1.0"),
    ],
)
def test_every_kind_of_value_has_a_text(sql: str, text: str) -> None:
    assert texts(column(sql)) == [text]


def test_moments_that_python_cannot_hold_have_a_text_too() -> None:
    (text,) = texts(column("TIMESTAMP_NS '2014-03-11 00:00:00.123456789'"))
    assert text == "2014-03-11 00:00:00.123456789"


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("NULL", None),
        ("7::BIGINT", 7),
        ("170141183460469231731687303715884105727::HUGEINT", 170141183460469231731687303715884105727),
        ("0.1::DECIMAL(18, 8)", "0.10000000"),
        ("0.25::DOUBLE", 0.25),
        ("'NaN'::DOUBLE", "nan"),
        ("'-inf'::DOUBLE", "-inf"),
        ("[0.5::DECIMAL(2, 1)]", ["0.5"]),
        ("MAP {'k': [1]}", {"k": [1]}),
    ],
)
def test_json_has_whole_numbers_as_numbers_and_decimals_as_strings(sql: str, value: object) -> None:
    values = json_values(column(sql))
    assert values == [value]
    json.dumps(values, allow_nan=False)


def test_a_date_of_a_table_is_its_iso_form() -> None:
    assert texts(pa.array([date(2014, 3, 1), None], pa.date32())) == ["2014-03-01", None]
    assert texts(pa.array([Decimal("0E-18")], NOTIONAL)) == ["0.000000000000000000"]


def column(sql: str) -> pa.Array:
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {sql}").to_arrow_table().column(0).combine_chunks()
