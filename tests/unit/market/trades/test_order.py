import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.trades.order import in_trade_order, market_order

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "b", "Ż", "A\x00"]),
        st.sampled_from([-(2**60), 0, 1, 2, 3, 2**61]),
        st.none() | st.integers(-1, 2),
        st.integers(0, 1),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=30,
)


def frame(rows: list[tuple[str, int, int | None, int, int, int]]) -> pl.DataFrame:
    names = ["symbol", "exchange_timestamp", "sequence_number", "kafka_partition", "kafka_offset", "tie"]
    types = [pl.String, pl.Int64, pl.Int64, pl.Int32, pl.Int64, pl.Int64]
    rows_frame = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
    return rows_frame.with_columns(pl.col("exchange_timestamp").cast(pl.Datetime("us", "UTC")))


def rows_of(trades: pl.DataFrame) -> list[tuple[object, ...]]:
    return trades.with_columns(pl.col("exchange_timestamp").to_physical()).rows()


def by_columns(row: tuple[str, int, int | None, int, int, int]) -> tuple[object, ...]:
    symbol, time, number, partition, offset, _ = row
    return symbol, time, (number is not None, number or 0), partition, offset


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_rows_stand_by_symbol_time_number_and_place_whatever_the_span_of_time(rows):
    order = market_order(frame(rows))
    ordered = frame(rows) if order is None else frame(rows)[order]

    assert rows_of(ordered) == sorted(rows, key=by_columns)


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_further_columns_decide_between_rows_that_are_equal_in_all_others(rows):
    order = market_order(frame(rows), ties=["tie"])
    ordered = frame(rows) if order is None else frame(rows)[order]

    assert rows_of(ordered) == sorted(rows, key=lambda row: (*by_columns(row), row[-1]))


ORDERED = st.lists(st.tuples(st.sampled_from(["A", "B", "b", "Ż"]), st.integers(1, 9)), max_size=30, unique=True)


def numbered(rows: list[tuple[str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"symbol": pl.String, "trade_order": pl.Int64}, orient="row")


@given(ORDERED)
@settings(max_examples=100, deadline=None)
def test_clean_trades_stand_by_symbol_and_trade_order(rows):
    assert in_trade_order(numbered(rows)).rows() == sorted(rows)


def test_trades_in_order_are_handed_back_as_they_are():
    rows = numbered([("A", 1), ("A", 2), ("B", 1)])

    assert in_trade_order(rows) is rows
