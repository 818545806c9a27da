"""What a catalog's URI is opened with."""

from k2_resources.iceberg.catalog import with_time_limits


def test_a_postgresql_catalog_is_waited_for_only_so_long() -> None:
    limited = with_time_limits("postgresql+psycopg2://k2:a%40b@host:5432/catalog")
    assert limited.startswith("postgresql+psycopg2://k2:a%40b@host:5432/catalog?")
    assert {"connect_timeout=10", "tcp_user_timeout=30000", "options=-c+statement_timeout%3D30s"} == set(
        limited.partition("?")[2].split("&")
    )


def test_limits_that_a_uri_sets_itself_stay() -> None:
    assert "connect_timeout=3&" in with_time_limits("postgresql://host/catalog?connect_timeout=3") + "&"


def test_other_databases_are_opened_as_they_are_named() -> None:
    assert with_time_limits("sqlite:////a b/catalog.db") == "sqlite:////a b/catalog.db"
