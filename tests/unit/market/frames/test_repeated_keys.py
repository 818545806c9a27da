import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.frames.repeated_keys import digest, rows_perhaps_sharing_a_key, rows_sharing_a_key

KEYS = st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), st.sampled_from(["", "a", "b", "ba"])), max_size=20)


@given(KEYS)
@settings(max_examples=100, deadline=None)
def test_exactly_the_rows_whose_key_occurs_more_than_once_are_found(keys):
    rows = pl.DataFrame(keys, schema={"symbol": pl.String, "trade_id": pl.String}, orient="row")

    shared = rows_sharing_a_key(rows, ["symbol", "trade_id"])

    assert shared.rows() == [key for key in keys if keys.count(key) > 1]
    assert set(shared.rows()) <= set(rows_perhaps_sharing_a_key(rows, ["symbol", "trade_id"]).rows())


@given(KEYS, st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_a_key_has_the_same_digest_in_whatever_order_a_frames_dictionary_has_its_texts(keys, cut):
    columns = {"symbol": [symbol for symbol, _ in keys], "trade_id": [trade_id for _, trade_id in keys]}
    table = pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})
    coded = table.set_column(0, "symbol", table["symbol"].dictionary_encode())

    def found(rows: pa.Table) -> list[int]:
        return pl.from_arrow(rows).select(digest(["symbol", "trade_id"])).to_series().to_list()

    backwards = table.take(pa.array(reversed(range(len(keys))), pa.int64()))
    recoded = backwards.set_column(0, "symbol", backwards["symbol"].dictionary_encode())
    assert found(coded) == found(recoded)[::-1]
    assert found(coded)[cut:] == found(coded.slice(min(cut, len(keys))))
