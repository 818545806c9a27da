"""Accepts SQL from outside: one statement that only reads, or a refusal.

A sealed connection keeps a statement to the tables' own directories, where a ``COPY`` or a log file could still do
harm. So a statement is parsed, by DuckDB itself, before it runs: it must be one ``SELECT`` (``DESCRIBE``, ``SHOW``
and ``SUMMARIZE`` are forms of it), or ``EXPLAIN`` before one, and may call only those table functions that touch no
file and no setting, and no function with a side effect or one that shows the process's settings.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb

from k2_market.errors import K2Error

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)

_CATALOG_FUNCTIONS = frozenset(
    {"duckdb_columns", "duckdb_schemas", "duckdb_tables", "duckdb_views", "pragma_table_info", "pragma_show"}
)
"""Table functions that look at which views there are."""

_TABLE_FUNCTIONS = _CATALOG_FUNCTIONS | {
    "duckdb_functions",
    "duckdb_keywords",
    "duckdb_types",
    "generate_series",
    "icu_calendar_names",
    "json_each",
    "json_tree",
    "pg_timezone_names",
    "pragma_version",
    "range",
    "repeat",
    "repeat_row",
    "unnest",
}
"""Table functions that may stand after FROM. Others read files, change settings or run unchecked SQL."""


_HARMLESS = frozenset({"error", "gen_random_uuid", "random", "uuid", "uuidv4", "uuidv7"})
"""Functions with a side effect, by DuckDB's own list, that only their caller notices."""

_OF_THE_PROCESS = frozenset({"current_setting", "getenv", "getvariable", "pg_sleep", "txid_current"})
"""Functions without one that show the process's settings, or only make it wait."""


class QueryError(K2Error):
    """A SQL statement can't be run: it is wrong, asks for what is not there, or would do more than read."""


@dataclass(frozen=True)
class ReadingStatement:
    """One SQL statement that only reads.

    Attributes:
        sql: Its text.
        tables: Names (schema, table) in lower case of the tables and catalog functions it uses; the schema is empty
            where none is given.
        parameters: Names of its ``$name`` parameters.
        explains: Whether it asks for a plan instead of rows.
    """

    sql: str
    tables: frozenset[tuple[str, str]]
    parameters: frozenset[str]
    explains: bool


def parse_statement(sql: str) -> ReadingStatement:
    """Return a SQL text as a statement that only reads.

    Raises:
        QueryError: Not SQL, not exactly one statement, or one that does more than read.
    """
    explain = _EXPLAIN.match(sql)
    tree = _syntax_tree(sql[explain.end() :] if explain else sql)
    if not tree:
        raise QueryError("SQL: there is no statement. Give one, as SELECT count(*) FROM asx.trades.")
    if len(tree) != 1:
        raise QueryError(f"SQL: found {len(tree)} statements, expected one. Run them one by one.")
    names: set[tuple[str, str]] = set()
    defined: set[tuple[str, str]] = set()
    parameters: set[str] = set()
    for node in _nodes(tree[0]):
        names |= _names_used(node)
        defined |= _names_defined(node)
        _require_reading_function(node)
        if node.get("class") == "PARAMETER":
            parameters.add(node["identifier"])
    return ReadingStatement(sql, frozenset(names - defined), frozenset(parameters), explain is not None)


def _require_reading_function(node: dict[str, Any]) -> None:
    function = str(node.get("function_name", "")).lower()
    if function in _functions_that_do_more():
        raise QueryError(f"SQL: function {function} can't be used here: it does more than read the tables.")


@cache
def _functions_that_do_more() -> frozenset[str]:
    with _parser().cursor() as parser:
        found = parser.execute("SELECT function_name FROM duckdb_functions() WHERE has_side_effects").fetchall()
    return frozenset(name for (name,) in found) - _HARMLESS | _OF_THE_PROCESS


def _syntax_tree(sql: str) -> list[dict[str, Any]]:
    with _parser().cursor() as parser:
        found = parser.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone()
    assert found is not None
    try:
        answer = json.loads(found[0])
    except RecursionError as error:
        raise QueryError("SQL: expressions are nested too deeply. Write long chains of operators as lists.") from error
    if not answer["error"]:
        statements: list[dict[str, Any]] = answer["statements"]
        return statements
    if answer["error_type"] == "not implemented" and re.search(r"\bPIVOT\b", sql, re.IGNORECASE):
        raise QueryError(
            "SQL: PIVOT has to name its values, as PIVOT asx.trades ON side IN ('BUY', 'SELL') USING count(*): to find "
            "them out DuckDB would make a type first, and only statements that read can be run."
        )
    if answer["error_type"] == "not implemented":
        raise QueryError(
            "SQL: only statements that read can be run: SELECT, DESCRIBE, SHOW, SUMMARIZE, and EXPLAIN [ANALYZE] "
            f"before one of them. Found: {_first_words(sql)}"
        )
    raise QueryError(f"SQL: {answer['error_message']}{_position(sql, answer.get('position'))}")


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """Return a database with nothing in it."""
    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a syntax tree."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _names_used(node: dict[str, Any]) -> set[tuple[str, str]]:
    match node.get("type"):
        case "BASE_TABLE":
            return {(node["schema_name"].lower(), node["table_name"].lower())}
        case "SHOW_REF" if node["query"] is None:
            return {(node["schema_name"].lower(), node["table_name"].lower())}
        case "TABLE_FUNCTION":
            function = node["function"]["function_name"].lower()
            if function not in _TABLE_FUNCTIONS:
                raise QueryError(f"SQL: table function {function} can't be used here. Ask the tables: SHOW ALL TABLES.")
            return {("", function)} & {("", name) for name in _CATALOG_FUNCTIONS}
    return set()


def _names_defined(node: dict[str, Any]) -> set[tuple[str, str]]:
    expressions = node.get("cte_map", {}).get("map", [])
    return {("", expression["key"].lower()) for expression in expressions}


def _first_words(sql: str) -> str:
    words = sql.split()
    return " ".join(words[:4]) + (" …" if len(words) > 4 else "")


def _position(sql: str, position: str | None) -> str:
    if position is None:
        return ""
    before = sql.encode()[: int(position)].decode(errors="replace")
    return f" (line {before.count(chr(10)) + 1}, column {len(before.rpartition(chr(10))[2]) + 1})"
