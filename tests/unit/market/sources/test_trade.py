from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.errors import SourceFileError
from k2_market.schemas.avro import TRADE
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.trade import SOURCE_TRADE, SourceRows, as_source_trades, ids_from_rows, in_time_order

DAY = date(2014, 3, 10)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def rows_of(file: str, *trades: tuple[str, int], day: date = DAY, content: str = "") -> SourceRows:
    """Rows of (symbol, time); each trade's id is file and place."""
    told = pl.DataFrame(
        {
            "symbol": [symbol for symbol, _ in trades],
            "exchange_timestamp_us": [time for _, time in trades],
            "trade_date": [day] * len(trades),
            "trade_id": [f"{file}{place}" for place in range(len(trades))],
            "price": [Decimal(1)] * len(trades),
            "quantity": [Decimal(1)] * len(trades),
        },
        schema_overrides={"symbol": pl.String, "exchange_timestamp_us": pl.Int64, "trade_date": pl.Date},
    )
    return SourceRows(file, as_source_trades(told, received=NOW), ids_from_rows=False, content_hash=content or file)


def test_the_decimals_of_rows_messages_and_tables_are_the_same():
    avro = {field["name"]: field["type"] for field in TRADE["fields"]}
    for name, table_type in (("price", PRICE), ("quantity", QUANTITY)):
        assert SOURCE_TRADE[name] == pl.Decimal(table_type.precision, table_type.scale)
        assert (avro[name]["precision"], avro[name]["scale"]) == (table_type.precision, table_type.scale)


def test_what_a_source_does_not_tell_is_said_to_be_unknown():
    (row,) = rows_of("f", ("BHP", 1)).rows.to_dicts()

    told_nothing = {"side": "UNKNOWN", "conditions": [], "action": "NEW", "corrects_trade_id": None}
    assert told_nothing.items() <= row.items()
    assert (row["sequence_number"], row["attributes"]) == (None, None)
    assert row["received_timestamp_us"] == int(NOW.timestamp()) * 1_000_000


def test_ids_are_made_of_the_files_content_the_day_and_the_rows_place_in_that_day():
    days = pl.Series([date(2014, 3, 10), date(2014, 3, 11), date(2014, 3, 10)])
    ids = ids_from_rows(b"one", days).to_list()

    assert [each.partition(":")[2] for each in ids] == ["2014-03-10:1", "2014-03-11:1", "2014-03-10:2"]
    assert ids == ids_from_rows(b"one", days).to_list()
    assert not set(ids) & set(ids_from_rows(b"two", days))


def test_rows_of_several_files_are_merged_by_time_and_then_by_file():
    merged = in_time_order([rows_of("a", ("X", 1), ("X", 3)), rows_of("b", ("Y", 1), ("Y", 2), ("Y", 3))])

    assert merged["trade_id"].to_list() == ["a0", "b0", "b1", "a1", "b2"]


def test_a_symbols_trade_that_is_out_of_time_keeps_its_place_in_the_file():
    merged = in_time_order([rows_of("a", ("X", 5), ("X", 2), ("Y", 3), ("X", 9))])

    assert merged["trade_id"].to_list() == ["a2", "a0", "a1", "a3"]


@given(st.lists(st.lists(st.tuples(st.sampled_from("XYZ"), st.integers(1, 9)), max_size=12), max_size=4))
def test_merging_keeps_every_row_and_each_symbols_order_within_its_file(files):
    merged = in_time_order([rows_of(chr(97 + n), *trades) for n, trades in enumerate(files)])

    assert merged.height == sum(map(len, files))
    for n, trades in enumerate(files):
        for symbol in "XYZ":
            here = merged.filter(pl.col("trade_id").str.starts_with(chr(97 + n)), pl.col("symbol") == symbol)
            assert here["exchange_timestamp_us"].to_list() == [time for each, time in trades if each == symbol]


def test_files_sorted_by_time_are_merged_into_rows_sorted_by_time():
    merged = in_time_order([rows_of("a", ("X", 1), ("Y", 4), ("X", 7)), rows_of("b", ("X", 2), ("Z", 5))])

    assert merged["exchange_timestamp_us"].is_sorted()


def test_no_files_are_no_rows():
    assert in_time_order([]).schema == SOURCE_TRADE


def test_two_files_of_one_content_are_refused_together_whatever_their_names():
    files = [rows_of("x/BHP.csv", ("BHP", 1), content="same"), rows_of("y/copy.csv.gz", ("BHP", 1), content="same")]

    with pytest.raises(SourceFileError, match=r"y/copy.csv.gz: has the same content as x/BHP.csv"):
        in_time_order(files)


def test_pieces_of_one_name_are_files_of_their_own():
    files = [rows_of("09/trades.csv", ("B", 1), content="nine"), rows_of("10/trades.csv", ("B", 1), content="ten")]

    assert in_time_order(files).height == 2


def test_files_without_rows_may_be_alike():
    files = [rows_of("x.csv", content="header"), rows_of("y.csv", content="header")]

    assert in_time_order(files).height == 0
