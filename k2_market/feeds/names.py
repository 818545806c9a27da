"""Lists names that a feed can't have, since SQL reserves them.

A feed's name is a schema in DuckDB (``asx.trades``) and in any engine that reads the same tables. A name that an engine
gives to a catalog or schema of its own is ambiguous there; a keyword can't be written without quotes.
"""

OWN_SCHEMAS = frozenset({"all_feeds"})
"""The schema whose views hold every feed's rows."""

ENGINE_SCHEMAS = frozenset({"main", "temp", "system", "memory", "information_schema", "pg_catalog"})
"""Catalogs and schemas that DuckDB has from the start (``duckdb_databases()``, ``duckdb_schemas()``)."""

POSTGRES_PREFIX = "pg_"
"""PostgreSQL refuses to create schemas whose names begin so."""

_DUCKDB_RESERVED = """
all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create default
deferrable desc describe distinct do else end except false fetch for foreign from group having in initially intersect
into lambda lateral leading limit not null offset on only or order pivot pivot_longer pivot_wider placing primary
qualify references returning select show some summarize symmetric table then to trailing true union unique unpivot using
variadic when where window with
"""
_DUCKDB_FUNCTIONS_AND_TYPES = """
anti asof at authorization binary by collation concurrently cross freeze full glob ilike inner is isnull join left like
natural notnull outer overlaps positional right semi similar tablesample unpack verbose
"""
_POSTGRES_RESERVED = """
current_catalog current_date current_role current_schema current_time current_timestamp current_user grant localtime
localtimestamp session_user system_user user
"""

KEYWORDS = frozenset((_DUCKDB_RESERVED + _DUCKDB_FUNCTIONS_AND_TYPES + _POSTGRES_RESERVED).split())
"""Words that name no schema unless they are quoted: those of DuckDB (``duckdb_keywords()``) that can't begin a table's
name, and those that PostgreSQL reserves beside them (its manual, appendix C)."""

RESERVED_NAMES = OWN_SCHEMAS | ENGINE_SCHEMAS | KEYWORDS
"""All of them, beside those that begin with ``POSTGRES_PREFIX``."""


def is_reserved(name: str) -> bool:
    """Say whether SQL keeps a name for itself.

    Example:
        >>> [is_reserved(name) for name in ("temp", "order", "pg_asx", "asx")]
        [True, True, True, False]
    """
    return name in RESERVED_NAMES or name.startswith(POSTGRES_PREFIX)
