import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.repeated_keys import rows_perhaps_sharing_a_key, rows_sharing_a_key

KEYS = st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), st.sampled_from(["", "a", "b", "ba"])), max_size=20)


@given(KEYS)
@settings(max_examples=100, deadline=None)
def test_exactly_the_rows_whose_key_occurs_more_than_once_are_found(keys):
    rows = pl.DataFrame(keys, schema={"symbol": pl.String, "trade_id": pl.String}, orient="row")

    shared = rows_sharing_a_key(rows, ["symbol", "trade_id"])

    assert shared.rows() == [key for key in keys if keys.count(key) > 1]
    assert set(shared.rows()) <= set(rows_perhaps_sharing_a_key(rows, ["symbol", "trade_id"]).rows())
