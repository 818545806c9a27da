"""Which trading day an instant belongs to, when days begin, trade and end: properties, and what exchanges say."""

import random
import re
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from exchange_calendars import get_calendar
from hypothesis import given
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_market.errors import CalendarError
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.session_table import session_table
from k2_market.feeds.trading_calendar import LONGEST_CLOSURE, TradingCalendar, calendar_fault, with_calendars
from k2_market.schemas.tables import BAR_INTERVALS, DAY

SIM = load_feeds([SHIPPED_FEEDS])["sim"]
START = date(2025, 1, 2)


def calendar(name: str, zone: str, day_starts: str | None = None, start: date = START) -> TradingCalendar:
    return TradingCalendar(ZoneInfo(zone), name, start, None if day_starts is None else time.fromisoformat(day_starts))


CME = calendar("CMES", "America/Chicago")
ICE = calendar("IEPA", "America/New_York")
FX = calendar("24/5", "America/New_York", "17:00")
FX_BY_UTC = calendar("24/5", "UTC")
CRYPTO = calendar("24/7", "UTC")
CRYPTO_DAY = calendar("24/7", "America/New_York", "17:00")
OSAKA = calendar("XTKS", "Asia/Tokyo", "16:00")
TOKYO = calendar("XTKS", "Asia/Tokyo")
SHANGHAI = calendar("XSHG", "Asia/Shanghai", "20:00")
HONG_KONG = calendar("XHKG", "Asia/Hong_Kong")
SYDNEY = calendar("XASX", "Australia/Sydney")
NEW_YORK = calendar("XNYS", "America/New_York")
SYDNEY_IN_UTC = calendar("XASX", "UTC")
MORNING = calendar("24/7", "Asia/Tokyo", "07:00")
QUARTER = calendar("XTKS", "Asia/Tokyo", "16:45")
INDIA = calendar("24/7", "Asia/Kolkata", "09:10")
ALL = [
    CME,
    ICE,
    FX,
    FX_BY_UTC,
    CRYPTO,
    CRYPTO_DAY,
    OSAKA,
    TOKYO,
    SHANGHAI,
    HONG_KONG,
    SYDNEY,
    NEW_YORK,
    SYDNEY_IN_UTC,
    MORNING,
    QUARTER,
    INDIA,
]

calendars = st.sampled_from(ALL)
instants = st.datetimes(datetime(2025, 1, 10), datetime(2029, 1, 1), timezones=st.just(UTC))
"""From the first days of the calendars above to more than a year beyond the last that any of them knows."""
dates = st.dates(date(2025, 1, 10), date(2029, 1, 1))


@given(calendars, instants)
def test_every_instant_belongs_to_one_trading_day_within_whose_instants_it_lies(
    of: TradingCalendar, instant: datetime
) -> None:
    day = of.trading_day_of(instant)
    start, end = of.instants_of(day)
    assert start <= instant < end
    assert end == of.day_end(day)
    around = [day + timedelta(days=n) for n in range(-14, 15)]
    assert [each for each in around if of.instants_of(each)[0] <= instant < of.instants_of(each)[1]] == [day]


@given(calendars, instants, st.timedeltas(timedelta(), timedelta(days=20)))
def test_a_later_instant_never_belongs_to_an_earlier_day(
    of: TradingCalendar, instant: datetime, later: timedelta
) -> None:
    assert of.trading_day_of(instant) <= of.trading_day_of(instant + later)


@given(calendars, dates)
def test_days_follow_each_other_without_gap_or_overlap(of: TradingCalendar, day: date) -> None:
    assert of.day_start(day) < of.day_end(day) == of.day_start(day + timedelta(days=1))
    assert timedelta(hours=22) <= of.day_end(day) - of.day_start(day) <= timedelta(hours=26)
    first, end = of.instants_of(day)
    if first < end:
        before = of.trading_day_of(first - timedelta(microseconds=1))
        assert of.instants_of(before)[1] == first
        assert (of.trading_day_of(first), of.trading_day_of(end - timedelta(microseconds=1))) == (day, day)


@given(calendars, dates)
def test_a_trading_day_lies_in_its_own_instants_and_its_start_and_end_are_its_own(
    of: TradingCalendar, day: date
) -> None:
    if not of.is_trading_day(day):
        return
    assert of.trading_day_of(of.day_start(day)) == day
    assert of.trading_day_of(of.day_end(day) - timedelta(microseconds=1)) == day


@given(calendars, dates)
def test_all_open_hours_of_a_session_belong_to_its_day(of: TradingCalendar, day: date) -> None:
    try:
        spans = of.session(day).open_spans
    except CalendarError:
        return
    for opens, closes in spans:
        assert opens < closes
        assert of.trading_day_of(opens) == of.trading_day_of(closes - timedelta(microseconds=1)) == day


@given(calendars, st.lists(instants, max_size=20))
def test_many_instants_at_once_have_the_days_that_each_has(of: TradingCalendar, drawn: list[datetime]) -> None:
    times = pl.Series([round((each - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) for each in drawn])
    days = of.trading_days_of(times.cast(pl.Int64)).to_list()
    assert days == [of.trading_day_of(each) for each in drawn]


@pytest.mark.parametrize("of", ALL)
def test_times_that_can_t_be_right_are_taken_for_the_nearest_that_can(of: TradingCalendar) -> None:
    days = of.trading_days_of(pl.Series([-(2**62), 0, 2**62]))
    assert days.len() == 3
    assert days.dtype == pl.Date


@given(calendars, dates)
def test_bars_are_counted_from_a_whole_local_hour_within_an_hour_before_the_day(of: TradingCalendar, day: date) -> None:
    grid = of.grid_start(day)
    assert timedelta() <= of.day_start(day) - grid < timedelta(hours=1)
    local = grid.astimezone(of.zone)
    assert (local.minute, local.second) == (0, 0)


def test_every_width_below_a_day_divides_the_hour() -> None:
    assert all(timedelta(hours=1) % each.width == timedelta() for each in BAR_INTERVALS if each is not DAY)


@given(calendars, instants)
def test_the_last_closed_session_has_closed_and_the_next_has_not(of: TradingCalendar, instant: datetime) -> None:
    day = of.last_closed(instant)
    assert of.is_trading_day(day)
    assert of.closes_at(day) <= instant < of.closes_at(of.next_trading_day(day))


ORACLES = [
    (CME, "CMES"),
    (ICE, "IEPA"),
    (FX_BY_UTC, "24/5"),
    (TOKYO, "XTKS"),
    (HONG_KONG, "XHKG"),
    (SYDNEY, "XASX"),
    (NEW_YORK, "XNYS"),
    (SYDNEY_IN_UTC, "XASX"),
    (calendar("us_futures", "America/New_York"), "us_futures"),
]


@pytest.mark.parametrize(("of", "name"), ORACLES, ids=[f"{name} in {of.zone.key}" for of, name in ORACLES])
def test_an_open_minute_belongs_to_the_session_that_the_exchange_says(of: TradingCalendar, name: str) -> None:
    library = get_calendar(name, start="2024-12-02")
    drawn, minutes = random.Random(name), library.minutes
    for _ in range(2_000):
        minute = minutes[drawn.randrange(len(library.minutes[:-1]))]
        assert of.trading_day_of(minute.to_pydatetime()) == library.minute_to_session(minute).date(), minute


@pytest.mark.parametrize(("of", "name"), [(CME, "CMES"), (FX_BY_UTC, "24/5")], ids=["CMES", "24/5"])
def test_a_weekend_belongs_to_the_session_after_it_where_sessions_meet(of: TradingCalendar, name: str) -> None:
    library = get_calendar(name, start="2024-12-02")
    for week in range(0, 90):
        saturday = datetime(2025, 1, 11, tzinfo=UTC) + timedelta(weeks=week, hours=week % 24, minutes=7 * week % 60)
        assert of.trading_day_of(saturday) == library.minute_to_session(saturday, "next").date()


def at(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("of", "local", "day"),
    [
        # Chicago: the day begins at 17:00 the evening before.
        (CME, "2026-11-15 16:59", "2026-11-16"),
        (CME, "2026-11-15 17:05", "2026-11-16"),
        (CME, "2026-11-15 23:30", "2026-11-16"),
        (CME, "2026-11-16 15:59", "2026-11-16"),
        (CME, "2026-11-16 16:59:59.999999", "2026-11-16"),
        (CME, "2026-11-16 17:00", "2026-11-17"),
        (CME, "2026-11-13 16:30", "2026-11-13"),  # a late report of Friday's
        (CME, "2026-11-13 17:30", "2026-11-16"),
        (CME, "2026-11-26 12:30", "2026-11-26"),  # Thanksgiving closes at 12:00; a late report stays on it
        (CME, "2026-11-26 17:00", "2026-11-27"),
        (CME, "2026-12-24 17:30", "2026-12-28"),  # Christmas Day is closed
        (CME, "2026-03-08 17:00", "2026-03-09"),  # clocks went forward that morning
        (CME, "2026-03-08 16:59", "2026-03-09"),
        (CME, "2026-11-01 17:00", "2026-11-02"),  # and back
        # ICE closes at 18:00 and opens at 20:00: what comes between is late.
        (ICE, "2026-11-16 18:30", "2026-11-16"),
        (ICE, "2026-11-16 20:00", "2026-11-17"),
        (ICE, "2026-11-13 20:30", "2026-11-16"),
        # FX by its own hour: Sunday 17:00 in New York is Monday, Friday 17:30 as well.
        (FX, "2026-11-15 17:00", "2026-11-16"),
        (FX, "2026-11-13 17:30", "2026-11-16"),
        (FX, "2026-11-13 16:59:59", "2026-11-13"),
        (FX, "2026-11-16 17:00", "2026-11-17"),
        (FX, "2026-03-08 17:00", "2026-03-09"),
        (FX, "2026-03-06 17:00", "2026-03-09"),
        (FX, "2026-11-01 17:00", "2026-11-02"),
        (FX_BY_UTC, "2026-11-15 22:00", "2026-11-16"),
        # Crypto: the local date, or the feed's own hour; every day trades.
        (CRYPTO, "2026-11-15 23:59:59.999999", "2026-11-15"),
        (CRYPTO, "2026-11-16 00:00", "2026-11-16"),
        (CRYPTO_DAY, "2026-11-13 17:00", "2026-11-14"),
        (MORNING, "2026-11-13 06:59", "2026-11-12"),
        (MORNING, "2026-11-13 07:00", "2026-11-13"),
        # Osaka's night session, by the feed's hour and Tokyo's holidays.
        (OSAKA, "2026-11-30 15:59", "2026-11-30"),
        (OSAKA, "2026-11-30 17:05", "2026-12-01"),
        (OSAKA, "2026-12-01 05:59", "2026-12-01"),
        (OSAKA, "2026-11-20 17:00", "2026-11-24"),  # Friday; Monday the 23rd is Labour Thanksgiving
        # Day sessions: the exchange's date, before the open and after the close, closed days too.
        (TOKYO, "2026-11-20 07:00", "2026-11-20"),
        (TOKYO, "2026-11-20 12:00", "2026-11-20"),
        (TOKYO, "2026-11-20 23:59", "2026-11-20"),
        (TOKYO, "2026-11-23 10:00", "2026-11-23"),
        (HONG_KONG, "2026-12-24 13:00", "2026-12-24"),
        (SYDNEY, "2026-10-04 10:00", "2026-10-04"),  # a Sunday on which clocks change
        (NEW_YORK, "2026-11-27 13:30", "2026-11-27"),
        (NEW_YORK, "2026-11-28 10:00", "2026-11-28"),
    ],
)
def test_the_day_is_the_one_that_a_trader_would_say(of: TradingCalendar, local: str, day: str) -> None:
    assert str(of.trading_day_of(at(of.zone.key, local))) == day


@pytest.mark.parametrize(
    ("of", "day", "start", "end"),
    [
        (CME, "2026-11-16", "2026-11-15T17:00:00-06:00", "2026-11-16T17:00:00-06:00"),
        (CME, "2026-03-09", "2026-03-08T17:00:00-05:00", "2026-03-09T17:00:00-05:00"),
        (FX, "2026-11-02", "2026-11-01T17:00:00-05:00", "2026-11-02T17:00:00-05:00"),
        (FX, "2026-03-09", "2026-03-08T17:00:00-04:00", "2026-03-09T17:00:00-04:00"),
        (CRYPTO_DAY, "2026-03-08", "2026-03-07T17:00:00-05:00", "2026-03-08T17:00:00-04:00"),
        (CRYPTO_DAY, "2026-11-01", "2026-10-31T17:00:00-04:00", "2026-11-01T17:00:00-05:00"),
        (OSAKA, "2026-12-01", "2026-11-30T16:00:00+09:00", "2026-12-01T16:00:00+09:00"),
        (SYDNEY, "2026-10-04", "2026-10-04T00:00:00+10:00", "2026-10-05T00:00:00+11:00"),
        (SYDNEY, "2026-04-05", "2026-04-05T00:00:00+11:00", "2026-04-06T00:00:00+10:00"),
    ],
)
def test_a_day_starts_and_ends_where_a_trader_would_say_also_when_clocks_change(
    of: TradingCalendar, day: str, start: str, end: str
) -> None:
    of_day = date.fromisoformat(day)
    assert (of.day_start(of_day), of.day_end(of_day)) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


def test_a_day_has_23_or_25_hours_when_clocks_change() -> None:
    hours = {
        day: (SYDNEY.day_end(day) - SYDNEY.day_start(day)) / timedelta(hours=1)
        for day in (date(2026, 4, 5), date(2026, 10, 4), date(2026, 10, 5))
    }
    assert list(hours.values()) == [25, 23, 24]


def test_the_hours_of_a_day_are_those_of_the_calendar_between_its_start_and_end() -> None:
    tokyo, osaka = TOKYO.session(date(2026, 12, 1)), OSAKA.session(date(2026, 12, 1))
    assert tokyo == osaka
    assert len(tokyo.open_spans) == 2
    assert FX.session(date(2026, 11, 16)).open_spans == (
        (FX.day_start(date(2026, 11, 16)), FX.day_end(date(2026, 11, 16))),
    )
    own_hour = calendar("CMES", "America/Chicago", "16:00").session(date(2026, 11, 16))
    assert own_hour.open_spans == (
        (at("America/Chicago", "2026-11-15 17:00"), at("America/Chicago", "2026-11-16 16:00")),
    )


@pytest.mark.parametrize(
    ("of", "day", "close"),
    [
        (SYDNEY, "2026-12-24", "2026-12-24T14:10:00+11:00"),
        (SYDNEY, "2026-12-23", "2026-12-23T16:00:00+11:00"),
        (NEW_YORK, "2026-11-27", "2026-11-27T13:00:00-05:00"),
        (CME, "2026-11-26", "2026-11-26T12:00:00-06:00"),
        (CRYPTO, "2026-11-26", "2026-11-27T00:00:00+00:00"),
        (FX, "2026-11-13", "2026-11-13T17:00:00-05:00"),
        (TOKYO, "2026-11-23", "2026-11-24T00:00:00+09:00"),  # closed: the end of the date
    ],
)
def test_a_day_closes_with_its_session(of: TradingCalendar, day: str, close: str) -> None:
    assert of.closes_at(date.fromisoformat(day)) == datetime.fromisoformat(close)


@pytest.mark.parametrize("of", [TOKYO, CME, FX, OSAKA, NEW_YORK], ids=lambda of: of.calendar_name)
def test_beyond_the_calendar_s_reach_weekdays_are_trading_days_and_weekends_are_not(of: TradingCalendar) -> None:
    monday = date(2040, 1, 2)
    week = [monday + timedelta(days=n) for n in range(7)]
    assert [of.is_trading_day(day) for day in week] == [True] * 5 + [False] * 2
    assert of.next_trading_day(date(2040, 1, 6)) == date(2040, 1, 9)
    assert of.previous_trading_day(date(2040, 1, 9)) == date(2040, 1, 6)
    with pytest.raises(CalendarError, match="knows sessions from"):
        of.session(monday)
    assert of.closes_at(monday) == of.day_end(monday)


def test_beyond_the_calendar_s_reach_evening_sessions_still_begin_the_evening_before() -> None:
    assert CME.trading_day_of(at("America/Chicago", "2040-01-02 17:00")) == date(2040, 1, 3)
    assert CME.trading_day_of(at("America/Chicago", "2040-07-06 16:59")) == date(2040, 7, 6)
    assert CME.trading_day_of(at("America/Chicago", "2040-01-06 17:00")) == date(2040, 1, 9)


def test_a_calendar_with_an_end_goes_on_with_weekdays_after_it() -> None:
    assert [SHANGHAI.is_trading_day(day) for day in (date(2026, 12, 31), date(2027, 1, 1), date(2027, 1, 2))] == [
        True,
        True,
        False,
    ]


@pytest.mark.slow
def test_no_exchange_is_closed_for_longer_than_days_are_waited_for() -> None:
    for name in ("XTAI", "XSHG", "XIDX", "XSAU", "XKAR", "XKRX", "XHKG", "XTKS", "CMES", "XPHS", "XBKK", "XIST"):
        first = date(2021, 1, 4) if name == "XSAU" else date(2005, 1, 10)
        days = list(session_table(name, first).sessions)
        assert max(later - day for day, later in pairwise(days)) <= LONGEST_CLOSURE, name


def feed(**changes: object) -> Feed:
    session = SIM.session.model_copy(update={"day_starts": changes.pop("day_starts", None)})
    return SIM.model_copy(update={**changes, "session": session})


def test_a_feed_whose_calendar_is_there_has_no_fault() -> None:
    assert calendar_fault(SIM) is None
    assert calendar_fault(feed(calendar="24/7")) is None
    assert calendar_fault(feed(calendar="24/5", day_starts=time(17))) is None
    assert calendar_fault(feed(calendar="XTKS", timezone="Asia/Tokyo", day_starts=time(16))) is None
    assert calendar_fault(feed(calendar="CMES", timezone="America/Chicago", day_starts=time(16))) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calendar": "XTAE"}, "key calendar: the sessions of 'XTAE' can't be had"),
        (
            {"calendar": "XSHG", "start_date": date(1985, 1, 1)},
            "key start_date: calendar 'XSHG' does not reach 1985-01-01",
        ),
        ({"day_starts": time(12)}, "key session.day_starts: 12:00 cuts the session of 20"),
        ({"calendar": "XTKS", "timezone": "Asia/Tokyo", "day_starts": time(9, 30)}, "trades from .* 09:00 to .* 15:30"),
    ],
)
def test_a_fault_names_the_key_and_why(changes: dict[str, object], words: str) -> None:
    assert re.search(words, calendar_fault(feed(**changes)) or "")


def test_a_feed_without_calendar_is_refused_and_the_others_stay(tmp_path: Path) -> None:
    text = (SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")
    (tmp_path / "good.toml").write_text(text, encoding="utf-8")
    wrong = text.replace('"sim"', '"wrong"', 1).replace("XNYS", "XTAE").replace(".sim", ".wrong")
    (tmp_path / "wrong.toml").write_text(wrong, encoding="utf-8")
    declared = with_calendars(load_feeds([tmp_path]))
    assert list(declared) == ["sim"]
    (refused,) = declared.refused
    assert (refused.name, refused.path) == ("wrong", str(tmp_path / "wrong.toml"))
    assert refused.reason.startswith("key calendar: ")
