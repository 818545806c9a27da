"""Parts of a day: all its rows, each symbol whole, and what is made of them is what is made of the day."""

from functools import reduce
from operator import add

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import messages, raw_table

from k2_market.feeds.feed import Conditions
from k2_market.frames.symbol_parts import symbol_parts
from k2_market.trades.cleaning import clean_day

PROFILE = Conditions(no_price=frozenset({"XT", "AV"}), no_volume=frozenset({"AV"}))

symbols = st.lists(st.sampled_from(["A", "B", "BA", "É", "Z", None]), max_size=30)
compact = st.booleans()
sizes = st.integers(1, 12)


def table(names: list[str | None], first: int, dictionary: bool) -> pa.Table:
    numbers = pa.array(range(first, first + len(names)), pa.int64())
    found = pa.table({"symbol": pa.array(names, pa.string()), "number": numbers})
    halves = pa.concat_tables([found.slice(0, len(names) // 2), found.slice(len(names) // 2)])
    if dictionary:
        return halves.set_column(0, "symbol", halves["symbol"].cast(pa.dictionary(pa.int32(), pa.string())))
    return halves


@given(symbols, symbols, compact, sizes)
def test_every_row_is_in_one_part_and_every_symbol_whole_in_order(one, other, dictionary, size):
    tables = table(one, 0, dictionary), table(other, 100, False)
    parts = list(symbol_parts(*tables, rows_a_part=size))

    assert parts
    seen = [{name for cut in part for name in cut["symbol"].to_pylist()} for part in parts]
    assert all(a.isdisjoint(b) for place, a in enumerate(seen) for b in seen[place + 1 :])
    named = [sorted(names - {None}) for names in seen]
    assert [name for names in named for name in names] == sorted({*one, *other} - {None})
    assert all(None not in names for names in seen[1:])
    for place, whole in enumerate(tables):
        rows = [row for part in parts for row in part[place].to_pylist()]
        assert sorted(row["number"] for row in rows) == whole["number"].to_pylist()
        for name in {row["symbol"] for row in rows}:
            of_symbol = [row["number"] for row in rows if row["symbol"] == name]
            assert of_symbol == [row["number"] for row in whole.to_pylist() if row["symbol"] == name]


@given(symbols, compact, sizes)
def test_a_part_has_the_columns_of_its_table_with_plain_texts(names, dictionary, size):
    for (part,) in symbol_parts(table(names, 0, dictionary), rows_a_part=size):
        assert part.schema == pa.schema([("symbol", pa.string()), ("number", pa.int64())])


@settings(max_examples=60, deadline=None)
@given(messages(), sizes)
def test_a_day_cleaned_in_parts_is_the_day_cleaned_at_once(rows, size):
    raw = raw_table(rows)
    whole = clean_day(raw, PROFILE)

    parts = [clean_day(part, PROFILE) for (part,) in symbol_parts(raw, rows_a_part=size)]

    assert pa.concat_tables([part.trades for part in parts]).equals(whole.trades)
    assert reduce(add, (part.counts for part in parts)) == whole.counts
