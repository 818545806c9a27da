import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pytest

from k2_resources.query.answer import Answer, run_statement
from k2_resources.query.reading_statement import QueryError, parse_statement
from k2_resources.runtime.process import collector_paused


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection
        connection.interrupt()  # else a statement that a failed test left behind would be waited for


def test_values_are_bound_and_never_become_sql(connection: duckdb.DuckDBPyConnection) -> None:
    hostile = "x' OR 1 = 1; DROP TABLE t; --"
    assert ask(connection, "SELECT $it AS it", it=hostile).table().to_pylist() == [{"it": hostile}]


def test_a_text_is_taken_as_the_type_that_it_is_compared_with(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        SELECT DATE '2014-03-11' = $day, 0.1::DECIMAL(18, 8) = $price, 7::BIGINT < $count,
               TIMESTAMPTZ '2014-03-11 00:00:00+00' = $moment
    """
    values = {"day": "2014-03-11", "price": "0.1", "count": "10", "moment": "2014-03-11T00:00:00Z"}
    assert [*ask(connection, sql, **values).table().to_pylist()[0].values()] == [True, True, True, True]


def test_columns_of_the_same_name_are_told_apart(connection: duckdb.DuckDBPyConnection) -> None:
    answer = ask(connection, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")
    assert answer.schema.names == ["a", "a_2", "a_2_2", "a_3"]
    assert answer.table().to_pylist() == [{"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}]


def test_a_parameter_without_a_value_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match=r"no value was given for \$day, \$symbol"):
        ask(connection, "SELECT $symbol, $day, $price", price="1")


def test_a_value_without_a_parameter_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match=r"values were given for \$b, which do not occur"):
        ask(connection, "SELECT $a", a="1", b="2")


def test_duckdb_s_own_message_is_kept(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match="trades does not exist"):
        ask(connection, "SELECT * FROM trades")


def test_an_error_in_a_late_row_is_ours_too(connection: duckdb.DuckDBPyConnection) -> None:
    answer = ask(connection, "SELECT CASE WHEN x = 499999 THEN ('a' || x)::INT END FROM range(500000) r(x)")
    with pytest.raises(QueryError, match="Could not convert string 'a499999'"):
        answer.table()


def test_the_cause_is_told_where_duckdb_interrupted_its_own_threads(connection: duckdb.DuckDBPyConnection) -> None:
    answer = ask(connection, "SELECT CASE WHEN x = 499999 THEN ('a' || x)::INT END FROM range(500000) r(x)")
    connection.interrupt()
    with pytest.raises(QueryError, match="Could not convert string 'a499999'"):
        answer.table()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "endless",
    ["SELECT count(*) FROM range(1000000000000)", "SELECT x FROM range(1000000000000) r(x) WHERE hash(x) = 0"],
)
@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 0.2])
def test_ctrl_c_stops_a_statement_that_takes_too_long(
    connection: duckdb.DuckDBPyConnection, endless: str, seconds: float
) -> None:
    statement = parse_statement(endless)
    with pytest.raises(KeyboardInterrupt), pressed_after(seconds):
        run_statement(connection, statement, {}).table()
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


@contextmanager
def pressed_after(seconds: float) -> Iterator[None]:
    """Ctrl-C, so many seconds from now."""
    # A shell that starts the tests in the background has SIGINT ignored, and Python keeps that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressing = threading.Timer(seconds, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    # Hypothesis has a callback in the garbage collector, and Python drops the exception of a signal that arrives there.
    with collector_paused():
        pressing.start()
        try:
            yield
        finally:
            pressing.join()
            signal.signal(signal.SIGINT, before)


def ask(connection: duckdb.DuckDBPyConnection, sql: str, **values: object) -> Answer:
    return run_statement(connection, parse_statement(sql), values)
