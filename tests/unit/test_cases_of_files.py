"""Small files after public reports that K2 once read wrongly, or refused without a word of use; rows are made up."""

import gzip
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import SHIPPED_FEEDS

from k2_market.errors import FeedFileError, SourceFileError
from k2_market.feeds.feed import Feed, Ids, IdScope, Price, PriceRange, load_feeds, parse_feed
from k2_market.sources.asx_tickdata import read_companies
from k2_market.sources.asx_tickdata import read_trades as read_asx
from k2_market.sources.csv import read_trades
from k2_market.sources.hitbtc import read_trades as read_hitbtc
from k2_market.sources.ids import refuse_conflicting_ids
from k2_market.sources.table import SourceTable
from k2_market.values.plain_texts import SEPARATORS, WHITE_SPACE, split_codes
from k2_resources.files.source_files import find_source_files, read_source_file

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
HEADER = "symbol,exchange_timestamp,price,quantity,trade_id"
KRAKEN = parse_feed(
    """
    name = "kry"
    exchange = "KRY"
    asset_class = "crypto"
    timezone = "UTC"
    calendar = "24/7"
    start_date = 2017-01-01
    currency = "quote"
    [topics]
    trades = "market.crypto.trades.kry"
    """,
    "kry.toml",
)
ANY_PRICE = KRAKEN.model_copy(update={"price": Price(may_be=PriceRange.ANY)})


def rows(*lines: str, header: str = HEADER, feed: Feed = KRAKEN) -> list[dict[str, object]]:
    return read_trades("\n".join([header, *lines, ""]).encode(), "t.csv", feed, NOW).rows.to_dicts()


def refusal(*lines: str, header: str = HEADER, feed: Feed = KRAKEN) -> str:
    with pytest.raises(SourceFileError) as refused:
        rows(*lines, header=header, feed=feed)
    return str(refused.value)


# Case 20: the same trade in two exports, one with a space after each comma.


def test_white_space_around_values_and_names_makes_no_other_trade():
    plain = rows("SPC,2026-11-22T10:00:00Z,10,1,y1")

    assert rows("SPC, 2026-11-22T10:00:00Z, 10, 1, y1") == plain
    assert (
        rows("\ufeffSPC\u00a0,2026-11-22T10:00:00Z\t,10,1,\u3000y1\u200b", header=HEADER.replace(",", " , ")) == plain
    )


@given(st.text(WHITE_SPACE.replace("\n", "").replace("\r", ""), max_size=4), st.sampled_from(["BHP", "A B", "币安"]))
def test_any_white_space_around_an_id_or_symbol_is_taken_off(space, text):
    found = rows(f'"{space}{text}{space}",2026-11-22T10:00:00Z,10,1,"{space}{text}{space}"')[0]

    assert (found["symbol"], found["trade_id"]) == (text, text)


def test_an_id_of_white_space_alone_is_none():
    assert "row 2: column 'trade_id': found '', expected an id" in refusal("SPC,2026-11-22T10:00:00Z,10,1,\u00a0 ")


def test_the_trade_that_a_correction_names_is_found_whatever_space_stands_around_it():
    header = f"{HEADER},action,corrects_trade_id"
    assert rows("SPC,2026-11-22T10:00:00Z,10,1,c1,CANCEL, y1", header=header)[0]["corrects_trade_id"] == "y1"


# Case 19: a sell as a negative amount.


def test_a_quantity_below_zero_is_refused_at_its_row():
    found = refusal("A,2026-11-21T10:00:00Z,91000,0.5,1", "A,2026-11-21T10:00:30Z,91010,-0.25,2")

    assert found.startswith("t.csv, row 3: column 'quantity': found '-0.25', expected a quantity of zero or more.")
    assert "Is the sign the side?" in found


def test_a_quantity_below_zero_is_refused_in_files_of_every_shape():
    feeds = load_feeds([SHIPPED_FEEDS])
    hitbtc = b"symbol,trade_id,timestamp,side,price,quantity\nBTCUSD,1,2019-04-01T10:00:00Z,buy,1,-1\n"
    companies = read_companies(b"company_id,symbol,start_date,end_date\n7078,BHP,01/01/2000,12/31/2030\n", "c.csv")

    with pytest.raises(SourceFileError, match="row 2: column 'quantity'"):
        read_hitbtc(hitbtc, "h.csv", feeds["hitbtc"].model_copy(update={"start_date": date(2017, 1, 1)}), NOW)
    with pytest.raises(SourceFileError, match=r"row 1: column 'volume'.*zero or more"):
        read_asx(b"03/11/2014,10:13:34.553,36.445,-8216,25,,\n", "7078.csv", feeds["asx"], NOW, companies)


def test_a_quantity_of_zero_is_data():
    assert rows("A,2026-11-21T10:00:00Z,91000,0,1")[0]["quantity"] == 0


def test_what_a_cancel_has_for_price_and_quantity_means_nothing():
    header = f"{HEADER},action"
    assert rows("A,2026-11-21T10:00:00Z,0,-1,1,CANCEL", header=header)[0]["action"] == "CANCEL"


# Case 03: crude oil on 2020-04-20.


@pytest.mark.parametrize("price", ["-37.63", "0", "-0.01"])
def test_a_price_of_zero_or_less_is_refused_at_its_row_unless_the_feed_has_such(price):
    line = f"CLK0,2020-04-20T13:30:00-05:00,{price},3,w2"

    assert f"row 2: column 'price': found '{price}', expected a price above zero" in refusal(line)
    assert '[price] may_be = "any"' in refusal(line)
    assert rows(line, feed=ANY_PRICE)[0]["price"] == Decimal(price)


# Case 06: condition codes in one quoted field.


@pytest.mark.parametrize(
    "text",
    [
        '"12,37"',
        "12|37",
        "12;37",
        "12/37",
        "12 37",
        '"12 , 37"',
        '"12,,37"',
        "12\t37",
        "12:37",
        "12+37",
        "12、37",
        "12，37",
    ],
)
def test_condition_codes_stand_apart_at_every_common_separator(text):
    line = f"A,2026-11-20T10:00:10Z,199,5,2,{text}"

    assert rows(line, header=f"{HEADER},conditions")[0]["conditions"] == ["12", "37"]


@pytest.mark.parametrize("text", ['"[12,37]"', "12-37", "12_37", "12.37", "\"['12', '37']\"", "{12}", "(12)", "12~37"])
def test_what_may_be_several_codes_and_can_not_be_told_apart_is_refused_by_row_and_code(text):
    found = refusal(f"A,2026-11-20T10:00:10Z,199,5,2,{text}", header=f"{HEADER},conditions")

    assert "row 2: column 'conditions'" in found
    assert "expected condition codes with | between them; condition " in found


@pytest.mark.parametrize("code", ["@", "XT", "S1", "*", "ODD_LOT", "FORM-T", "T37", "4", "寄付"])
def test_a_code_of_any_exchange_stays_whole(code):
    assert rows(f"A,2026-11-20T10:00:10Z,1,5,2,{code}", header=f"{HEADER},conditions")[0]["conditions"] == [code]


@given(
    st.lists(st.text("AB12@*", min_size=1, max_size=3), max_size=4), st.sampled_from([*SEPARATORS, *WHITE_SPACE, " , "])
)
def test_codes_joined_by_any_separator_are_those_codes_again(codes, separator):
    assert split_codes(separator.join(codes)) == codes


@pytest.mark.parametrize("code", ["12,37", " 37", "", "1 2"])
def test_a_feed_file_can_not_name_a_code_that_no_trade_would_have(code):
    with pytest.raises(FeedFileError, match=r"conditions.no_price.*one condition code"):
        parse_feed(f'[conditions]\nno_price = ["{code}"]', "f.toml")


# Case 12: milliseconds where microseconds are expected.


@pytest.mark.parametrize(
    ("time", "looks"),
    [
        ("1763632800000", "milliseconds (2025-11-20T10:00:00Z)"),
        ("1763632800", "seconds (2025-11-20T10:00:00Z)"),
        ("1763632800000000000", "nanoseconds (2025-11-20T10:00:00Z)"),
        ("1763632800.123", "seconds with decimals (2025-11-20T10:00:00Z)"),
        ("1763632800000.5", "milliseconds with decimals (2025-11-20T10:00:00Z)"),
        ("20251120100000", "a date and time written in digits (2025-11-20)"),
        ("20251120100000123", "a date and time written in digits (2025-11-20)"),
        ("946684800000", "milliseconds (2000-01-01T00:00:00Z)"),
    ],
)
def test_a_time_in_another_unit_is_named_with_what_it_looks_like(time, looks):
    found = refusal(f"BTC/USDT,{time},91000.5,0.01,ms1")

    assert f"row 2: column 'exchange_timestamp': found '{time}'" in found
    assert f"it looks like {looks}, and microseconds are expected" in found


def test_the_first_row_in_another_unit_is_named_among_sound_ones():
    found = refusal("A,1763632800000000,1,1,a", "A,2025-11-20T10:00:00Z,1,1,b", "A,1763632800000,1,1,c")

    assert found.startswith("t.csv, row 4:")


@given(st.datetimes(datetime(2017, 1, 1), datetime(2026, 11, 29)))
def test_no_count_of_microseconds_is_taken_for_another_unit(instant):
    count = (instant - datetime(1970, 1, 1)) // (datetime(1970, 1, 2) - datetime(1970, 1, 1)) * 86_400_000_000

    assert rows(f"A,{count},1,1,a")[0]["exchange_timestamp_us"] == count


# Case 17: symbols of other scripts.


@pytest.mark.parametrize("symbol", ["币安人生_USDT", "トヨタ", "삼성전자", "СБЕР", "ارامكو", "É"])
def test_a_symbol_is_kept_as_the_exchange_writes_it(symbol):
    assert rows(f'"{symbol}",2026-11-21T11:00:00Z,10,1,x0')[0]["symbol"] == symbol


def test_a_symbol_that_is_refused_is_named_by_its_very_character():
    found = refusal("A🚀B,2026-11-21T11:00:00Z,10,1,x0")

    assert "symbol has U+1F680 ROCKET as character 2, which is not allowed" in found


# Case 13: files of another kind.


def zipped(content: bytes) -> bytes:
    with BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("t.csv", content)
        return buffer.getvalue()


PLAIN = f"{HEADER}\nA,2026-11-21T11:00:00Z,10,1,x0\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zipped(PLAIN.encode()), "this is a zip archive"),
        (gzip.compress(gzip.compress(PLAIN.encode())), "this is gzip data within gzip data"),
        (gzip.compress(zipped(PLAIN.encode())), "this is a zip archive"),
        (b"BZh91AY&SY" + bytes(20), "this is a bzip2 file"),
        (b"\xfd7zXZ\x00" + bytes(20), "this is an xz file"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "this is a zstd file"),
        (b"PAR1" + bytes(20), "this is a Parquet file"),
        (PLAIN.encode("utf-16"), "this is UTF-16 text"),
        (PLAIN.encode("utf-16-le"), "this is UTF-16 text"),
        (PLAIN.encode("utf-16-be"), "this is UTF-16 text"),
        (PLAIN.encode("utf-32"), "this is UTF-32 text"),
        (b"a,b\x00\n1,2\n", "this is binary data"),
        (b'[{"symbol": "A"}]', "this is JSON"),
        (b"<!DOCTYPE html><html>", "this is XML or a web page"),
        (PLAIN.replace(",", "\t").encode(), "found columns divided by tabs, expected commas"),
        (PLAIN.replace(",", ";").encode(), "found columns divided by semicolons, expected commas"),
        (PLAIN.replace(",", "|").encode(), "found columns divided by pipes (|), expected commas"),
    ],
)
def test_a_file_of_another_kind_is_named_and_what_is_expected(tmp_path, content, kind):
    path = tmp_path / "trades.csv"
    path.write_bytes(content)

    with pytest.raises(SourceFileError) as refused:
        read_trades(read_source_file(path), str(path), KRAKEN, NOW)

    assert str(refused.value).startswith(str(path))
    assert kind in str(refused.value)
    assert "expected" in str(refused.value)
    assert str(refused.value).isprintable()


def test_rows_without_header_divided_by_another_separator_are_named(tmp_path):
    with pytest.raises(SourceFileError, match="row 1: found columns divided by tabs, expected commas"):
        SourceTable.without_header(b"1\t2\t3\n", "t.csv", ("x", "y", "z"))


def test_control_characters_of_a_file_reach_no_terminal():
    assert refusal("1", header="\x1b[31msymbol\x07,price").isprintable()


def test_a_directory_without_csv_files_says_what_it_holds(tmp_path):
    (tmp_path / "BTCUSDT-trades.zip").write_bytes(b"")

    with pytest.raises(SourceFileError, match=r"holds no .*\.csv.*, but BTCUSDT-trades\.zip"):
        find_source_files([str(tmp_path)])


# Case 21: a consolidated tape, whose ids are unique within venue and symbol.

TAPE = [
    "TDOC,2026-11-21T14:30:00Z,222.39,27,1",
    "TDOC,2026-11-21T14:30:01Z,222.41,50,1",
    "TDOC,2026-11-21T14:30:02Z,222.40,10,2",
]


def sendable(*lines: str, header: str = HEADER, scope: IdScope = IdScope.SYMBOL) -> pl.DataFrame:
    feed = KRAKEN.model_copy(update={"ids": Ids(unique_within=scope)})
    trades = read_trades("\n".join([header, *lines, ""]).encode(), "t.csv", feed, NOW).rows
    refuse_conflicting_ids(trades, feed)
    return trades


@pytest.mark.parametrize("scope", IdScope)
def test_an_id_that_stands_for_differing_trades_is_refused_before_anything_is_sent(scope):
    with pytest.raises(
        SourceFileError, match=r"trade_id '1' stands for differing trades of 2026-11-21: TDOC 222.39 x 27"
    ):
        sendable(*TAPE, scope=scope)


def test_ids_of_two_venues_may_be_alike_where_the_feed_file_says_so():
    lines = [f"{line},{venue}" for line, venue in zip(TAPE, ["XNYS", "XNAS", "XNYS"], strict=True)]
    header = f"{HEADER},exchange"

    assert sendable(*lines, header=header, scope=IdScope.VENUE)["exchange"].to_list() == ["XNYS", "XNAS", "XNYS"]
    with pytest.raises(SourceFileError, match="differing trades"):
        sendable(*lines, header=header)


def test_ids_of_two_symbols_may_be_alike_unless_ids_are_unique_within_the_feed():
    lines = ["A,2026-11-21T14:30:00Z,1,1,1", "B,2026-11-21T14:30:00Z,1,1,1"]

    assert sendable(*lines).height == 2
    with pytest.raises(SourceFileError, match="differing trades"):
        sendable(*lines, scope=IdScope.FEED)


def test_a_trade_that_is_there_twice_and_a_correction_of_it_are_no_conflict():
    header = f"{HEADER},action"
    line = "A,2026-11-21T14:30:00Z,1,1,1"

    assert sendable(f"{line},NEW", f"{line},NEW", "A,2026-11-21T14:30:00Z,2,1,1,CORRECT", header=header).height == 3
