"""Names that a feed can't have: DuckDB itself is asked which those are."""

import duckdb
import pytest

from k2_market.feeds.names import ENGINE_SCHEMAS, KEYWORDS, is_reserved


def works(name: str, connection: duckdb.DuckDBPyConnection) -> bool:
    """Say whether a view in a schema of a name can be made, and asked for as users do, without quotes."""
    try:
        connection.execute(f'CREATE SCHEMA "{name}"')
        connection.execute(f'CREATE VIEW "{name}".trades AS SELECT 1 AS price')
        for statement in (f"FROM {name}.trades", f"SELECT {name}.trades.price FROM {name}.trades"):
            connection.execute(statement).fetchall()
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')
    except duckdb.Error:
        return False
    return True


def test_catalogs_and_schemas_that_duckdb_has_are_reserved() -> None:
    with duckdb.connect() as connection:
        catalogs = connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()
        schemas = connection.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()
    assert {name for (name,) in catalogs + schemas} == ENGINE_SCHEMAS


def test_every_keyword_that_can_t_begin_a_table_s_name_in_duckdb_is_reserved() -> None:
    with duckdb.connect() as connection:
        keywords = [name for (name,) in connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()]
        assert [name for name in keywords if not is_reserved(name) and not works(name, connection)] == []


@pytest.mark.parametrize(
    "name", ["temp", "system", "memory", "main", "pg_catalog", "pg_temp", "all_feeds", "order", "user"]
)
def test_names_of_engines_and_words_of_sql_are_reserved(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["asx", "hitbtc", "sim", "cme", "nyse", "public", "temp_feed", "fx", "trades"])
def test_names_of_exchanges_are_not(name: str) -> None:
    assert not is_reserved(name)
    with duckdb.connect() as connection:
        assert works(name, connection)


def test_keywords_are_written_as_feeds_would_be_named() -> None:
    assert all(word == word.lower() for word in KEYWORDS)
