from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from k2_cli.inputs.asked_day import parse_day

NOW = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)
SYDNEY = ZoneInfo("Australia/Sydney")


@given(st.dates(date(1970, 1, 1), date(2199, 12, 31)))
def test_a_date_is_that_date_wherever_the_exchange_is(day: date) -> None:
    assert parse_day(day.isoformat()).date(SYDNEY, NOW) == day


@given(st.integers(0, 9999))
def test_days_ago_are_counted_from_today_at_the_exchange(days: int) -> None:
    assert parse_day(f"-{days}d").date(UTC, NOW) == date(2026, 11, 30) - timedelta(days)
    assert parse_day(f"-{days}d").date(SYDNEY, NOW) == date(2026, 12, 1) - timedelta(days)


def test_today_and_yesterday_are_the_exchanges() -> None:
    days = [parse_day(text).date(SYDNEY, NOW) for text in ("today", "Yesterday")]
    assert days == [date(2026, 12, 1), date(2026, 11, 30)]


@pytest.mark.parametrize("text", ["", "20261124", "2026-11-31", "5d", "-5", "tomorrow", "2026-11-24T00:00"])
def test_what_is_no_day_is_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="found "):
        parse_day(text)
