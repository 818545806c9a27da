"""Limits on what may be sent, through the CSV reader, which holds its rows to them as every reader does."""

from datetime import UTC, datetime, timedelta

import pytest
from repository import SHIPPED_FEEDS

from k2_market.errors import SourceFileError
from k2_market.feeds.feed import load_feeds
from k2_market.sources.csv import read_trades

ASX = load_feeds([SHIPPED_FEEDS])["asx"]
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def read(symbol: str = "BHP", time: object = "2014-03-10T10:00:00+11:00", trade_date: str = "") -> None:
    header = "symbol,exchange_timestamp,price,quantity" + (",trade_date" if trade_date else "")
    good = "BHP,2014-03-10T10:00:00+11:00,1,1" + (",2014-03-10" if trade_date else "")
    row = f'"{symbol}",{time},1,1' + (f",{trade_date}" if trade_date else "")
    read_trades(f"{header}\n{good}\n{row}\n".encode(), "t.csv", ASX, NOW)


def test_a_time_up_to_an_hour_ahead_is_sent():
    read(time=(NOW + timedelta(hours=1)).isoformat())


@pytest.mark.parametrize("ahead", [timedelta(hours=1, microseconds=1), timedelta(hours=2), timedelta(days=400)])
def test_a_time_further_ahead_stops_the_whole_file(ahead):
    with pytest.raises(SourceFileError, match=r"t.csv, row 3: .*up to an hour ahead \(2026-11-24T13:00:00Z\).*nothing"):
        read(time=(NOW + ahead).isoformat())


@pytest.mark.parametrize("time", [0, -1, "1970-01-01T00:00:00Z", "1969-12-31T00:00:00Z"])
def test_a_time_that_is_not_after_1970_is_refused(time):
    with pytest.raises(SourceFileError, match=r"row 3: .*a time after 1970-01-01"):
        read(time=time)


@pytest.mark.parametrize("time", ["2262-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 9_999_999_999_999_999])
def test_a_time_beyond_2262_is_refused_as_such(time):
    with pytest.raises(SourceFileError, match=r"row 3: .*a time before 2262-01-01"):
        read(time=time)


def test_a_day_before_the_feeds_first_has_nowhere_to_go():
    with pytest.raises(SourceFileError, match=r"row 3: .*from feed asx's start_date, 2014-03-10, on"):
        read(time="2014-03-09T10:00:00+11:00")


@pytest.mark.parametrize("trade_date", ["2014-03-23", "2016-03-10"])
def test_a_trading_day_far_from_its_time_is_refused(trade_date):
    with pytest.raises(SourceFileError, match=r"row 3: column 'trade_date'.*within 12 days"):
        read(trade_date=trade_date)


def test_a_trading_day_as_far_as_exchanges_are_closed_is_sent():
    read(trade_date="2014-03-22")


def test_the_trading_day_of_the_next_session_is_sent_and_none_after_it():
    now = NOW.isoformat()  # a Tuesday, 23:00 in Sydney
    read(time=now, trade_date="2026-11-25")
    with pytest.raises(SourceFileError, match=r"row 3: column 'trade_date'.*up to 2026-11-25, the session"):
        read(time=now, trade_date="2026-11-26")


def test_the_trading_day_of_an_evening_session_may_be_after_the_weekend():
    read(time="2014-03-14T18:00:00+11:00", trade_date="2014-03-17")


@pytest.mark.parametrize("symbol", ["../../etc/passwd", "A" * 10_000, "x'); drop table t; --", "A\tB", "", "=BHP"])
def test_a_text_that_is_no_symbol_is_refused_by_row(symbol):
    with pytest.raises(SourceFileError, match=r"t.csv, row 3: column 'symbol'.*expected a symbol: symbol"):
        read(symbol=symbol)
