from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from repository import SHIPPED_FEEDS

from k2_market.errors import SourceFileError
from k2_market.feeds.feed import load_feeds
from k2_market.sources.csv import read_trades
from k2_market.sources.trade import SourceRows

ASX = load_feeds([SHIPPED_FEEDS])["asx"]
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HEADER = "symbol,exchange_timestamp,price,quantity"
TRADE = "BHP,2014-03-10T10:00:00+11:00,36.45,100"


def read(*lines: str) -> SourceRows:
    return read_trades("\n".join([*lines, ""]).encode(), "in/t.csv", ASX, NOW)


def test_a_file_with_the_required_columns_alone_is_enough():
    read_rows = read(HEADER, TRADE)

    (row,) = read_rows.rows.to_dicts()
    assert row["symbol"] == "BHP"
    assert row["exchange_timestamp_us"] == int(datetime(2014, 3, 9, 23, tzinfo=UTC).timestamp()) * 1_000_000
    assert (row["price"], row["quantity"]) == (Decimal("36.45"), Decimal(100))
    assert row["trade_id"] == f"{read_rows.content_hash[:16]}:2014-03-10:1"
    assert read_rows.ids_from_rows


def test_the_trading_day_is_the_date_at_the_exchange():
    rows = read(HEADER, "BHP,2014-03-10T12:59:59.999999Z,1,1", "BHP,2014-03-10T13:00:00Z,1,1").rows

    assert rows["trade_date"].to_list() == [date(2014, 3, 10), date(2014, 3, 11)]


def test_the_trading_day_of_futures_begins_the_evening_before():
    cme = ASX.model_copy(update={"calendar": "CMES", "timezone": "America/Chicago", "start_date": date(2013, 10, 1)})
    times = [
        "2026-11-15T17:05:00-06:00",
        "2026-11-15T23:30:00-06:00",
        "2026-11-16T09:00:00-06:00",
        "2026-11-16T15:59:00-06:00",
        "2026-11-16T17:05:00-06:00",
    ]
    content = "\n".join([HEADER, *(f"ESZ6,{time},6700,1" for time in times), ""])
    days = read_trades(content.encode(), "es.csv", cme, NOW).rows["trade_date"].to_list()
    assert days == [date(2026, 11, 16)] * 4 + [date(2026, 11, 17)]


def test_the_trading_day_of_a_feed_with_an_hour_of_its_own_begins_at_it():
    session = ASX.session.model_copy(update={"day_starts": time(17)})
    fx = ASX.model_copy(update={"calendar": "24/5", "timezone": "America/New_York", "session": session})
    times = ["2026-11-13T16:59:59-05:00", "2026-11-13T17:30:00-05:00", "2026-11-15T17:00:00-05:00"]
    content = "\n".join([HEADER, *(f"EURUSD,{time},1.1,1" for time in times), ""])
    days = read_trades(content.encode(), "fx.csv", fx, NOW).rows["trade_date"].to_list()
    assert days == [date(2026, 11, 13), date(2026, 11, 16), date(2026, 11, 16)]


def test_every_optional_column_is_taken_over():
    header = f"{HEADER},trade_id,side,conditions,sequence_number,trade_date,action,corrects_trade_id"
    full = f"{TRADE},id-2,sell,25|XT,7,2014-03-11,CORRECT,id-1"
    empty = f"{TRADE},id-1,,,,2014-03-10,,"

    read_rows = read(header, full, empty)

    first, second = read_rows.rows.to_dicts()
    told = {
        "trade_id": "id-2",
        "side": "SELL",
        "conditions": ["25", "XT"],
        "sequence_number": 7,
        "trade_date": date(2014, 3, 11),
        "action": "CORRECT",
        "corrects_trade_id": "id-1",
    }
    untold = {
        "trade_id": "id-1",
        "side": "UNKNOWN",
        "conditions": [],
        "sequence_number": None,
        "trade_date": date(2014, 3, 10),
        "action": "NEW",
        "corrects_trade_id": None,
    }
    assert told.items() <= first.items()
    assert untold.items() <= second.items()
    assert not read_rows.ids_from_rows


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["symbol,exchange_timestamp,price", "BHP,1,1"], "in/t.csv: column 'quantity' is missing"),
        ([HEADER, TRADE, "BHP,2014-03-10T10:00:00+11:00,x,100"], "in/t.csv, row 3: column 'price': found 'x'"),
        ([HEADER, TRADE, "BHP,2014-03-10T10:00:00,1,100"], "in/t.csv, row 3: .*mixed time zones"),
        ([f"{HEADER},side", f"{TRADE},BID"], "row 2: column 'side': found 'BID', expected BUY or SELL"),
        ([f"{HEADER},action", f"{TRADE},BUST"], "row 2: column 'action': found 'BUST', expected NEW or CORRECT"),
        ([f"{HEADER},trade_id", f"{TRADE},a", f"{TRADE},"], "row 3: column 'trade_id': found '', expected an id"),
        ([f"{HEADER},sequence_number", f"{TRADE},1.5"], "row 2: column 'sequence_number': found '1.5'"),
        ([f"{HEADER},trade_date", f"{TRADE},10/03/2014"], "row 2: column 'trade_date'"),
    ],
)
def test_what_can_not_be_read_is_refused_with_file_row_and_column(lines, message):
    with pytest.raises(SourceFileError, match=message):
        read(*lines)
