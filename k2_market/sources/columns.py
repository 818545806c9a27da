"""Converts text columns to numbers and instants, exactly; a value that can't be read is named by its row."""

import re
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa

from k2_market.sources.table import SourceTable
from k2_market.values.time_units import other_unit

_DECIMAL = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)$"
_INTEGER = r"^[+-]?[0-9]{1,18}$"
_MICROSECONDS = r"^[+-]?(?:[0-9]{1,8}|[0-9]{15,16})$"
_NUMBER = r"^[+]?[0-9]{1,25}(?:\.[0-9]+)?$"
_DIGITS_OF_CALENDAR = re.compile(
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
    r"(?:[0-9]{3}|[0-9]{6})?"
)
_INSTANT = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)$"
)
_WITHOUT_ZONE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?$"
_INSTANT_EXPECTED = (
    "an ISO 8601 time with its offset, to the microsecond (2014-03-10T10:00:00.123456+11:00), or whole microseconds "
    "since 1970 UTC"
)


def decimals(table: SourceTable, column: str, dtype: pa.Decimal128Type) -> pl.Series:
    """Return a column of decimal numbers; never rounded.

    Raises:
        SourceFileError: Not a plain decimal number, or one that the type does not hold exactly.
    """
    text = table.columns[column].str.strip_chars()
    table.refuse_unless(text.str.contains(_DECIMAL), column, "a decimal number such as 36.45")
    parts = text.str.strip_chars_start("+-").str.split_exact(".", 1).struct.unnest()
    whole, decimals = (
        parts["field_0"].str.strip_chars_start("0"),
        parts["field_1"].fill_null("").str.strip_chars_end("0"),
    )
    table.refuse_unless(decimals.str.len_bytes() <= dtype.scale, column, f"at most {dtype.scale} decimals")
    most = dtype.precision - dtype.scale
    table.refuse_unless(whole.str.len_bytes() <= most, column, f"at most {most} digits before the decimal point")
    return text.str.strip_chars_start("+").cast(pl.Decimal(dtype.precision, dtype.scale))


def integers(table: SourceTable, column: str) -> pl.Series:
    """Return a column of whole numbers; null where it is empty.

    Raises:
        SourceFileError: Something else.
    """
    text = table.columns[column].str.strip_chars()
    table.refuse_unless((text == "") | text.str.contains(_INTEGER), column, "a whole number of up to 18 digits")
    return text.str.strip_chars_start("+").cast(pl.Int64, strict=False)


def dates(table: SourceTable, column: str) -> pl.Series:
    """Return a column of ISO 8601 dates.

    Raises:
        SourceFileError: Something else.
    """
    found = table.columns[column].str.strip_chars().str.to_date("%Y-%m-%d", strict=False)
    table.refuse_unless(found.is_not_null(), column, "a date such as 2014-03-10")
    return found


def instants_us(table: SourceTable, column: str) -> pl.Series:
    """Return a column of instants, in microseconds since 1970 UTC.

    Each is ISO 8601 with an offset or whole microseconds. Offsets may differ from row to row, as they do when clocks
    change: each instant stands for itself.

    Raises:
        SourceFileError: A time without offset, alone or mixed with others; a zone that is a name; more than
            microseconds; no such date or time of day; a count in another unit than microseconds.
    """
    text = table.columns[column].str.strip_chars()
    _refuse_other_units(table, text, column)
    counted = text.str.contains(_INTEGER)
    parts = text.str.extract_groups(_INSTANT).struct.unnest()
    naive = text.str.contains(_WITHOUT_ZONE)
    if naive.any():
        mixed = parts["zone"].is_not_null().any()
        why = "others in the file have an offset, this one has none: mixed time zones" if mixed else "it has no offset"
        table.refuse_unless(~naive, column, f"{_INSTANT_EXPECTED}; {why}")
    table.refuse_unless(counted | parts["zone"].is_not_null(), column, _INSTANT_EXPECTED)
    fraction = parts["fraction"].fill_null("").str.strip_chars_end("0")
    table.refuse_unless(fraction.str.len_bytes() <= 6, column, _INSTANT_EXPECTED)
    local = (parts["date"] + "T" + parts["time"]).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False)
    offset_us = _offset_minutes(parts["zone"]) * 60_000_000
    table.refuse_unless(
        counted | (local.is_not_null() & (offset_us.abs() < 86_400_000_000)), column, "a date and time that exist"
    )
    stated = local.cast(pl.Int64) + fraction.str.pad_end(6, "0").cast(pl.Int64) - offset_us
    return text.str.strip_chars_start("+").cast(pl.Int64, strict=False).zip_with(counted, stated)


def local_instants_us(table: SourceTable, local: pl.Series, zone: ZoneInfo, column: str) -> pl.Series:
    """Return times on the clocks of a zone, in microseconds since 1970 UTC.

    Args:
        table: Where they come from, for the error.
        local: Naive datetimes, without nulls.
        zone: Whose clocks.
        column: The column to name in the error.

    Raises:
        SourceFileError: A time that those clocks skipped or showed twice when they were changed.
    """
    located = local.dt.replace_time_zone(zone.key, ambiguous="null", non_existent="null")
    table.refuse_unless(located.is_not_null(), column, f"a time that {zone.key} had once; its clocks changed there")
    return located.dt.convert_time_zone("UTC").cast(pl.Int64)


def _refuse_other_units(table: SourceTable, text: pl.Series, column: str) -> None:
    """Raise on the first number that is no count of microseconds by its size or form, and say what it looks like."""
    usual = text.str.contains(_MICROSECONDS) | ~text.str.contains(_NUMBER)
    for index in (~usual).arg_true():
        found = text[int(index)]
        looks = _unit_of(found)
        if looks is not None:
            wrong = pl.Series([row != index for row in range(len(text))])
            table.refuse_unless(
                wrong, column, f"{_INSTANT_EXPECTED}; it looks like {looks}, and microseconds are expected"
            )


def _unit_of(number: str) -> str | None:
    whole, _, decimals = number.lstrip("+").partition(".")
    if _DIGITS_OF_CALENDAR.fullmatch(whole):
        return f"a date and time written in digits ({whole[:4]}-{whole[4:6]}-{whole[6:8]})"
    unit = other_unit(int(whole or 0))
    if unit is None and decimals and other_unit(int(whole or 0) // 1_000) is not None:
        return "microseconds with decimals"
    return unit if unit is None or not decimals else unit.replace(" (", " with decimals (", 1)


def _offset_minutes(zone: pl.Series) -> pl.Series:
    digits = zone.str.replace_all(r"[^0-9]", "").str.pad_end(4, "0").cast(pl.Int64, strict=False)
    minutes = digits // 100 * 60 + digits % 100
    return minutes * (1 - 2 * zone.str.starts_with("-").cast(pl.Int64))
