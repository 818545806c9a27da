import gzip
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from repository import SHIPPED_FEEDS

from k2_market.errors import SourceFileError
from k2_market.feeds.feed import load_feeds
from k2_market.sources.asx_tickdata import COMPANY_INFO, read_companies, read_trades
from k2_market.sources.trade import SourceRows, in_time_order

ASX = load_feeds([SHIPPED_FEEDS])["asx"]
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
COMPANY_FILE = b"""company_id,symbol,company_name,ISIN,start_date,end_date
7078,OLD,BEFORE,AU1,01/01/2000,03/10/2014
7078,BHP,BHP BILLITON LTD,AU2,03/11/2014,03/31/2014
"""


def read(*lines: str, file: str = "in/7078.csv.gz") -> SourceRows:
    companies = read_companies(COMPANY_FILE, "company_info.csv")
    return read_trades("\r\n".join([*lines, ""]).encode(), file, ASX, NOW, companies)


def test_a_print_is_read_with_its_code_on_sydneys_clock():
    read_rows = read("03/11/2014,10:13:34.553,36.445,8216,25,,")
    (row,) = read_rows.rows.to_dicts()

    assert row["symbol"] == "BHP"
    assert row["exchange_timestamp_us"] == round(datetime(2014, 3, 10, 23, 13, 34, 553000, UTC).timestamp() * 1e6)
    assert row["trade_date"] == date(2014, 3, 11)
    assert row["trade_id"] == f"{read_rows.content_hash[:16]}:2014-03-11:1"
    assert (row["price"], row["quantity"], row["conditions"]) == (Decimal("36.445"), Decimal(8216), ["25"])
    assert (row["side"], row["sequence_number"], row["attributes"]) == ("UNKNOWN", None, None)


def test_the_vendors_opinion_of_a_print_is_kept_beside_it():
    (row,) = read("03/11/2014,10:13:34.553,42.00,8216,3,X,36.40").rows.to_dicts()

    assert row["attributes"] == [
        {"key": "exclude_flag", "value": "X"},
        {"key": "filtered_price", "value": "36.40"},
    ]


def test_equal_rows_are_genuine_fills_with_ids_of_their_own():
    fill = "03/11/2014,10:13:34.553,36.44,100,0,,"

    ids = read(fill, fill).rows["trade_id"].to_list()
    assert [each.partition(":")[2] for each in ids] == ["2014-03-11:1", "2014-03-11:2"]


def test_a_company_has_the_symbol_that_it_had_on_the_day():
    rows = read("03/10/2014,10:00:00.000,1,1,0,,", "03/11/2014,10:00:00.000,1,1,0,,").rows

    assert rows["symbol"].to_list() == ["OLD", "BHP"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2014-03-11,10:00:00.000,1,1,0,,", "row 2: column 'date': found '2014-03-11', expected .*month first"),
        ("03/11/2014,10:00,1,1,0,,", "row 2: column 'time': found '10:00'"),
        ("03/11/2014,25:00:00.000,1,1,0,,", "row 2: column 'time'.*exists"),
        ("03/11/2014,10:00:00.000,1..0,1,0,,", "row 2: column 'price': found '1..0'"),
        ("03/11/2014,10:00:00.000,1,,0,,", "row 2: column 'volume': found ''"),
        ("03/11/2014,10:00:00.000,1,1,,,", "row 2: column 'condition'"),
        ("03/11/2014,10:00:00.000,1,1,0,Y,", "row 2: column 'exclude_flag': found 'Y', expected 'X' or nothing"),
        ("04/01/2014,10:00:00.000,1,1,0,,", "row 2: column 'date'.*company_info.csv has a symbol for company '7078'"),
        ("03/11/2014,10:00:00.000,1,1,0,", "row 2: found 6 columns, expected 7"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row(line, message):
    with pytest.raises(SourceFileError, match=f"in/7078.csv.gz, {message}"):
        read("03/11/2014,10:00:00.000,1,1,0,,", line)


def test_a_file_that_is_named_after_no_company_is_refused():
    with pytest.raises(SourceFileError, match="symbol for company '9999'"):
        read("03/11/2014,10:00:00.000,1,1,0,,", file="9999.csv.gz")


def test_the_five_real_days_are_read_to_the_last_row(market_data):
    directory = market_data / "asx-2014-03" / "trades"
    companies = read_companies((directory / COMPANY_INFO).read_bytes(), "company_info.csv")
    files = [
        read_trades(gzip.decompress(path.read_bytes()), str(path), ASX, NOW, companies)
        for path in sorted(directory.glob("*.csv.gz"))
    ]

    trades = in_time_order(files)

    assert trades.height == 200_545
    assert trades["exchange_timestamp_us"].is_sorted()
    assert trades["trade_date"].unique().sort().to_list() == [date(2014, 3, day) for day in range(10, 15)]
    assert set(trades["symbol"].unique()) == {"BHP", "RIO", "DVN", "MWR"}
    assert trades.select("symbol", "trade_id").is_unique().all()
