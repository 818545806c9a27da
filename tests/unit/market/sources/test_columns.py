from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.errors import SourceFileError
from k2_market.sources.columns import dates, decimals, instants_us, integers, local_instants_us
from k2_market.sources.table import SourceTable

D18_8 = pa.decimal128(18, 8)


def column(*texts: str) -> SourceTable:
    return SourceTable("t.csv", pl.DataFrame({"x": list(texts)}, schema={"x": pl.String}), _file(texts), True)


def _file(texts) -> bytes:
    return "\n".join(["x", *(text or '""' for text in texts), ""]).encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("36.45", "36.45"),
        (" 36.45 ", "36.45"),
        ("-37.63", "-37.63"),
        ("+1", "1"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0", "0"),
        ("0000000000001.100000000000", "1.1"),
        ("9999999999.99999999", "9999999999.99999999"),
        ("-9999999999.99999999", "-9999999999.99999999"),
        ("0.00000001", "0.00000001"),
    ],
)
def test_a_decimal_is_read_exactly(text, value):
    assert decimals(column(text), "x", D18_8).to_list() == [Decimal(value)]


@given(st.lists(st.integers(-(10**18) + 1, 10**18 - 1).map(lambda units: Decimal(units).scaleb(-8)), max_size=20))
def test_every_decimal_of_18_digits_survives_its_text(values):
    assert decimals(column(*(f"{value:f}" for value in values)), "x", D18_8).to_list() == values


@pytest.mark.parametrize("text", ["0.123456789", "1e-5", "1,5", "NaN", "inf", "", "-", ".", "1.2.3", "--1", "0x10"])
def test_what_is_no_decimal_or_would_be_rounded_is_refused_by_row(text):
    with pytest.raises(SourceFileError, match=r"t.csv, row 3: column 'x': found .*, expected"):
        decimals(column("1", text, "2"), "x", D18_8)


def test_a_decimal_with_too_many_digits_before_the_point_is_refused():
    with pytest.raises(SourceFileError, match=r"row 2.*'10000000000', expected at most 10 digits"):
        decimals(column("10000000000"), "x", D18_8)


def test_the_type_says_how_many_decimals_there_may_be():
    assert decimals(column("0.0000038465"), "x", pa.decimal128(18, 10)).to_list() == [Decimal("0.0000038465")]


def test_integers_may_be_absent():
    assert integers(column("1", "", "-7", "+3"), "x").to_list() == [1, None, -7, 3]


@pytest.mark.parametrize("text", ["1.0", "x", "1" * 19, "1_000"])
def test_what_is_no_integer_is_refused(text):
    with pytest.raises(SourceFileError, match="row 2"):
        integers(column(text), "x")


def test_dates_are_iso():
    assert [str(day) for day in dates(column("2014-03-10", "2024-02-29"), "x")] == ["2014-03-10", "2024-02-29"]


@pytest.mark.parametrize("text", ["2023-02-29", "10/03/2014", "", "20140310"])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(SourceFileError, match="row 2"):
        dates(column(text), "x")


NOON = datetime(2014, 3, 10, 12, 0, 0, 123456, UTC)
NOON_US = 1394452800123456


@pytest.mark.parametrize(
    "text",
    [
        "2014-03-10T12:00:00.123456Z",
        "2014-03-10 12:00:00.123456z",
        "2014-03-10T23:00:00.123456+11:00",
        "2014-03-10T23:00:00.123456000+1100",
        "2014-03-10T23:00:00,123456+11",
        "2014-03-10T08:30:00.123456-03:30",
        "1394452800123456",
    ],
)
def test_one_instant_may_be_written_in_many_ways(text):
    assert instants_us(column(text), "x").to_list() == [NOON_US]


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2261, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
)
def test_any_instant_survives_its_text_in_any_offset(naive, offset):
    instant = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    microseconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    assert instants_us(column(instant.isoformat()), "x").to_list() == [microseconds]


def test_different_offsets_in_one_file_are_unambiguous_and_read_as_they_stand():
    over_the_clock_change = column("2014-04-05T12:00:00+11:00", "2014-04-06T12:00:00+10:00")

    first, second = instants_us(over_the_clock_change, "x")

    assert second - first == 25 * 3600 * 1_000_000


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2014-03-10T12:00:00Z", "2014-03-10T12:00:00"], "row 3.*this one has none: mixed time zones"),
        (["2014-03-10T12:00:00", "2014-03-10T12:00:00Z"], "row 2.*this one has none: mixed time zones"),
        (["2014-03-10T12:00:00.5"], "row 2.*it has no offset"),
        (["2014-03-10T12:00:00 AEDT"], "row 2"),
        (["2014-03-10T12:00:00[Australia/Sydney]"], "row 2"),
        (["2014-03-10T12:00:00.1234567Z"], "row 2.*to the microsecond"),
        (["2014-02-30T12:00:00Z"], "row 2.*that exist"),
        (["2014-03-10T24:00:00Z"], "row 2.*that exist"),
        (["2014-03-10T12:00:00+24:00"], "row 2.*that exist"),
        (["1394452800123456000"], "row 2"),
        ([""], "row 2"),
        (["yesterday"], "row 2"),
    ],
)
def test_a_time_that_does_not_say_which_instant_it_is_is_refused(texts, message):
    with pytest.raises(SourceFileError, match=message):
        instants_us(column(*texts), "x")


SYDNEY = ZoneInfo("Australia/Sydney")


def test_times_on_local_clocks_become_instants():
    local = pl.Series([datetime(2014, 3, 10, 23, 0, 0, 123456)])

    assert local_instants_us(column("x"), local, SYDNEY, "x").to_list() == [NOON_US]


@pytest.mark.parametrize("twice_or_never", [datetime(2014, 4, 6, 2, 30), datetime(2014, 10, 5, 2, 30)])
def test_a_local_time_that_was_there_twice_or_never_is_refused(twice_or_never):
    with pytest.raises(SourceFileError, match=r"row 2.*Australia/Sydney had once"):
        local_instants_us(column("x"), pl.Series([twice_or_never]), SYDNEY, "x")
