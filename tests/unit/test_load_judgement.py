"""What was loaded, and whether something is loaded again: decided on records, without a broker."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.loads.loads import (
    Load,
    LoadedFile,
    LoadError,
    LoadKind,
    LoadState,
    judge,
    load_named,
    loads_of_records,
    times_unloaded,
)
from k2_market.loads.row_hashes import DayOfRows, days_of_rows
from k2_market.sources.trade import SourceRows, as_source_trades, ids_from_rows, with_ids_of_generation

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = date(2026, 11, 20)
Drawn = tuple[str, int, int, int]


def trades(*rows: Drawn, ids: str = "v", day: date = DAY) -> pl.DataFrame:
    """Trades of (symbol, time, price, quantity) with ids of their own."""
    told = pl.DataFrame(
        {
            "symbol": [row[0] for row in rows],
            "exchange_timestamp_us": [row[1] for row in rows],
            "trade_date": [day] * len(rows),
            "trade_id": [f"{ids}{n}" for n in range(len(rows))],
            "price": [Decimal(row[2]) for row in rows],
            "quantity": [Decimal(row[3]) for row in rows],
        },
        schema_overrides={"symbol": pl.String, "exchange_timestamp_us": pl.Int64, "trade_date": pl.Date},
    )
    return as_source_trades(told, received=NOW)


ROWS: list[Drawn] = [("A", 1, 10, 5), ("A", 2, 11, 5), ("B", 1, 10, 5)]


def file_of(name: str, content: str, found: pl.DataFrame) -> LoadedFile:
    return LoadedFile(name, content, found.height, days_of_rows(found))


def load_of(*files: LoadedFile, load_id: str = "one", state: LoadState = LoadState.COMPLETE) -> Load:
    return Load(load_id, LoadKind.LOAD, state, NOW, sum(each.rows for each in files), NOW, NOW, files=files)


def test_the_same_content_is_refused_under_another_name():
    before = load_of(file_of("a.csv", "c", trades(*ROWS)))

    found = judge([file_of("b.csv", "c", trades(*ROWS))], [before])

    assert found.refusals == ("b.csv: has the content of a.csv, loaded at 2026-11-30T12:00:00Z (load one)",)


def test_rows_under_other_ids_are_refused_and_under_the_same_ids_mentioned():
    before = load_of(file_of("a.csv", "c", trades(*ROWS)))

    other_ids = judge([file_of("b.csv", "d", trades(*ROWS, ids="w"))], [before])
    same_ids = judge([file_of("b.csv", "d", trades(*ROWS))], [before])

    assert len(other_ids.refusals) == 1
    assert "its 3 rows of 2026-11-20 are those of a.csv" in other_ids.refusals[0]
    assert same_ids.refusals == ()
    assert "under the same ids: they count once" in same_ids.remarks[0]


def test_one_day_of_many_that_was_loaded_before_is_enough():
    monday, tuesday = date(2026, 11, 23), date(2026, 11, 24)
    before = load_of(file_of("a.csv", "c", trades(*ROWS, day=monday)))
    both = pl.concat([trades(*ROWS, ids="w", day=monday), trades(*ROWS, ids="x", day=tuesday)])

    (refusal,) = judge([file_of("week.csv", "d", both)], [before]).refusals

    assert "3 rows of 2026-11-23 are" in refusal


@pytest.mark.parametrize("state", [LoadState.BEGUN, LoadState.UNLOADED])
def test_a_load_that_did_not_end_or_was_taken_back_refuses_nothing(state):
    before = load_of(file_of("a.csv", "c", trades(*ROWS)), state=state)

    assert judge([file_of("a.csv", "c", trades(*ROWS))], [before]).refusals == ()


def test_files_without_rows_are_never_refused():
    before = load_of(file_of("a.csv", "header", trades()))

    assert judge([file_of("b.csv", "header", trades())], [before]).refusals == ()


ANY_ROWS = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=6
)


@settings(deadline=None)
@given(ANY_ROWS, st.randoms())
def test_the_order_of_rows_does_not_change_their_hash(rows, random):
    shuffled = random.sample(rows, len(rows))

    assert days_of_rows(trades(*rows))[0].rows_hash == days_of_rows(trades(*shuffled))[0].rows_hash


@settings(deadline=None)
@given(ANY_ROWS, ANY_ROWS)
def test_only_equal_rows_have_equal_hashes(one, other):
    same = days_of_rows(trades(*one))[0].rows_hash == days_of_rows(trades(*other))[0].rows_hash

    assert same == (sorted(one) == sorted(other))


def test_a_hash_is_the_same_on_any_machine_and_in_any_version():
    assert days_of_rows(trades(*ROWS)) == (
        DayOfRows(DAY, 3, "41022c561e44190f2de5e7bc4492e7e7", "b5c393fda792ebd3202bde4d17f0b23a"),
    )


@given(
    st.builds(
        Load,
        load_id=st.uuids().map(lambda each: each.hex),
        kind=st.sampled_from(LoadKind),
        state=st.sampled_from(LoadState),
        time=st.just(NOW),
        rows=st.integers(0, 10),
        first=st.none() | st.just(NOW - timedelta(days=1)),
        last=st.none() | st.just(NOW),
        topic_id=st.text(max_size=3),
        offsets=st.dictionaries(st.integers(0, 3), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3),
        about=st.text(max_size=5),
        again=st.booleans(),
        files=st.lists(
            st.builds(
                LoadedFile,
                name=st.text(max_size=5),
                content_hash=st.text(max_size=5),
                rows=st.integers(0, 9),
                days=st.lists(
                    st.builds(DayOfRows, st.dates(), st.integers(0, 9), st.text(max_size=4), st.text(max_size=4)),
                    max_size=2,
                ).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_a_load_is_read_from_its_records_as_it_was_written(load):
    assert loads_of_records(load.to_records()) == (load,)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "files": 1}'])
def test_a_record_that_is_none_is_named(text):
    with pytest.raises(LoadError, match="load abc: its record"):
        loads_of_records({"abc": text})


def test_a_load_is_found_by_the_beginning_of_its_id_if_it_is_the_only_one():
    loads = [load_of(load_id="ab1"), load_of(load_id="ab2")]

    assert load_named("ab2", loads).load_id == "ab2"
    for wrong, words in (("ab", "2 loads have"), ("x", "no load has"), ("", "no load has")):
        with pytest.raises(LoadError, match=words):
            load_named(wrong, loads)


def test_what_was_taken_back_gets_other_ids_when_it_comes_again_unless_the_file_has_ids():
    made = trades(*ROWS).with_columns(ids_from_rows(b"x", pl.Series([DAY] * 3)))
    content = ids_from_rows(b"x", pl.Series([DAY])).to_list()[0].partition(":")[0] + "0" * 48
    own, without = (SourceRows("a.csv", made, ids_from_rows=each, content_hash=content) for each in (False, True))

    assert with_ids_of_generation(own, 1) == own
    assert with_ids_of_generation(without, 0) == without
    once, twice = (with_ids_of_generation(without, times).rows["trade_id"].to_list() for times in (1, 2))
    assert len({*made["trade_id"].to_list(), *once, *twice}) == 9


def test_how_often_a_content_was_taken_back_is_counted():
    file = file_of("a.csv", "c", trades(*ROWS))
    loads = [load_of(file, state=LoadState.UNLOADED), load_of(file), replace(load_of(file), state=LoadState.UNLOADED)]

    assert (times_unloaded("c", loads), times_unloaded("other", loads)) == (2, 0)
