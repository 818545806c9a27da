from contextlib import suppress

import pytest

from k2_resources.query.reading_statement import QueryError, parse_statement


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM asx.trades", {("asx", "trades")}),
        ('FROM "ASX"."Trades" SELECT price', {("asx", "trades")}),
        ("SELECT * FROM asx.trades a JOIN all_feeds.trades b ON true", {("asx", "trades"), ("all_feeds", "trades")}),
        (
            "SELECT 1 FROM asx.trades WHERE price IN (SELECT open FROM sim.ohlcv_1m)",
            {("asx", "trades"), ("sim", "ohlcv_1m")},
        ),
        ("WITH t AS (SELECT * FROM asx.trades) SELECT * FROM t", {("asx", "trades")}),
        ("PIVOT asx.trades ON side IN ('BUY', 'SELL')", {("asx", "trades")}),
        ("DESCRIBE asx.trades", {("asx", "trades")}),
        ("SUMMARIZE asx.trades", {("asx", "trades")}),
        ("EXPLAIN ANALYZE SELECT * FROM asx.trades", {("asx", "trades")}),
        ("SELECT * FROM range(3), unnest([1, 2])", set()),
        ("VALUES (1)", set()),
    ],
)
def test_a_statement_that_reads_is_taken_with_the_names_of_its_tables(sql: str, tables: set[tuple[str, str]]) -> None:
    statement = parse_statement(sql)
    assert statement.tables == tables
    assert statement.sql == sql


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "SHOW ALL TABLES", "SELECT * FROM information_schema.tables", "FROM duckdb_views()"]
)
def test_looking_at_which_tables_there_are_counts_as_a_name_that_is_no_table_of_ours(sql: str) -> None:
    assert len(parse_statement(sql).tables) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO 'file.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'file.csv'",
        "explain  analyze\ncreate table t (a int)",
        "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO 'file.csv'",
        "EXPLAIN (FORMAT json, ANALYZE) COPY (SELECT 1) TO 'file.csv'",
        "CREATE TABLE t (a INT)",
        "INSERT INTO asx.trades SELECT * FROM asx.trades",
        "DELETE FROM asx.trades",
        "DROP VIEW asx.trades",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "PRAGMA enable_profiling",
        "CALL enable_logging()",
        "EXPORT DATABASE 'there'",
        "CREATE SECRET (TYPE s3)",
    ],
)
def test_a_statement_that_does_more_than_read_is_refused(sql: str) -> None:
    with pytest.raises(QueryError):
        parse_statement(sql)


@pytest.mark.parametrize(
    "function",
    [
        "enable_logging(storage = 'file', storage_path = 'there')",
        "read_csv('/etc/passwd')",
        "READ_TEXT('/etc/passwd')",
        "glob('*')",
        "query('COPY (SELECT 1) TO ''file.csv''')",
        "query_table('asx.trades')",
        "iceberg_scan('somewhere')",
        "json_execute_serialized_sql('{}')",
        "duckdb_secrets()",
    ],
)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {}",
        "SELECT (SELECT count(*) FROM {})",
        "WITH a AS (SELECT * FROM {}) SELECT * FROM a",
        "SELECT 1 FROM asx.trades, LATERAL (SELECT * FROM {})",
        "EXPLAIN ANALYZE SELECT * FROM {}",
        "SUMMARIZE (SELECT * FROM {})",
        "SELECT 1 UNION ALL SELECT 1 FROM {}",
        "SELECT 1 WHERE EXISTS (FROM {})",
    ],
)
def test_a_table_function_that_reaches_outside_is_refused_wherever_it_stands(sql: str, function: str) -> None:
    with pytest.raises(QueryError, match=r"can't be used here|not SQL|SQL:"):
        parse_statement(sql.format(function))


def test_what_is_allowed_passes_in_all_the_places_where_the_forbidden_is_looked_for() -> None:
    for place in ("SELECT (SELECT count(*) FROM {})", "SELECT 1 FROM asx.trades, LATERAL (SELECT * FROM {})"):
        assert parse_statement(place.format("range(3)"))


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT 1; SELECT 2", "found 2 statements, expected one"),
        ("", "there is no statement"),
        (" ; ", "there is no statement"),
    ],
)
def test_exactly_one_statement_is_expected(sql: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        parse_statement(sql)


def test_a_syntax_error_says_where() -> None:
    with pytest.raises(QueryError, match=r'syntax error at or near "FORM" .line 2, column 9'):
        parse_statement("SELECT 1 FROM t\nWHERE x FORM y")


def test_a_very_deep_expression_is_refused() -> None:
    with pytest.raises(QueryError, match=r"depth|too deeply"):
        parse_statement(f"SELECT 1{' + 1' * 5000}")


@pytest.mark.parametrize("depth", [100, 400, 900])
def test_a_deep_expression_is_taken_or_refused_and_breaks_nothing(depth: int) -> None:
    with suppress(QueryError):
        parse_statement(f"SELECT 1{' + 1' * depth}")


def test_parameters_are_known_by_name() -> None:
    assert parse_statement("SELECT $a FROM asx.trades WHERE price > $b OR price < $b").parameters == {"a", "b"}


def test_only_explain_explains() -> None:
    assert parse_statement("EXPLAIN SELECT 1").explains
    assert not parse_statement("SELECT 1").explains


@pytest.mark.parametrize(
    "call",
    [
        "write_log('x')",
        "pg_sleep(100)",
        "sleep_ms(100)",
        "current_setting('s3_secret_access_key')",
        "getenv('HOME')",
        "nextval('s')",
        "setseed(0.5)",
        "Write_Log('x')",
    ],
)
@pytest.mark.parametrize("statement", ["SELECT {}", "SELECT * FROM asx.trades WHERE {} IS NULL", "EXPLAIN SELECT {}"])
def test_a_function_that_does_more_than_read_is_refused_by_name_wherever_it_stands(call: str, statement: str) -> None:
    with pytest.raises(QueryError, match=rf"(?i)function {call.split('(')[0]} can't be used here"):
        parse_statement(statement.format(call))


@pytest.mark.parametrize("call", ["random()", "uuid()", "lower('A')", "sum(price)", "date_trunc('day', now())"])
def test_functions_that_read_are_taken(call: str) -> None:
    assert parse_statement(f"SELECT {call} FROM asx.trades").tables == {("asx", "trades")}


def test_a_pivot_without_its_values_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(QueryError, match="PIVOT has to name its values"):
        parse_statement("PIVOT asx.trades ON side USING count(*)")
