"""What is told of a catalog that can't be opened: its driver and database, never what may be a password."""

import traceback

import pytest

from k2_resources.iceberg.catalog import CatalogUnavailable, open_catalog


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql+psycopg2://k2:hunter22@127.0.0.1:1/catalog",
        "postgresql+psycopg2://k2:hunter%2F22@127.0.0.1:1/catalog",
        "postgresql+nosuchdriver://k2:hunter22@db/catalog",
        "nosuchdatabase://k2:hunter22@db/catalog",
        "postgresql://k2:hun/ter22@127.0.0.1:1/catalog",
        "postgresql://k2:hun@ter22@127.0.0.1:1/catalog",
        "postgresql://k2:hun#ter22@127.0.0.1:1/catalog?password=hunter22",
        "postgresql://k2:hunter22@127.0.0.1:54x32/catalog",
        "k2:hunter22@db/catalog",
        "hunter22",
    ],
)
def test_no_part_of_a_password_is_in_the_message(uri: str) -> None:
    with pytest.raises(CatalogUnavailable) as told:
        open_catalog(uri, "file:///nowhere")
    assert "hun" not in str(told.value)
    assert "ter22" not in str(told.value)


@pytest.mark.parametrize("uri", ["postgresql://k2:hunter22@127.0.0.1:54x32/catalog", "hunter22"])
def test_what_is_no_uri_is_told_without_a_traceback_that_shows_it(uri: str) -> None:
    with pytest.raises(CatalogUnavailable, match="K2_CATALOG_URI is not a SQLAlchemy URL; expected") as told:
        open_catalog(uri, "file:///nowhere")
    assert "hunter22" not in "".join(traceback.format_exception_only(told.value))
    assert told.value.__suppress_context__


def test_the_driver_and_the_database_are_named() -> None:
    with pytest.raises(CatalogUnavailable, match=r"Iceberg catalog postgresql\+nosuchdriver://…/catalog: "):
        open_catalog("postgresql+nosuchdriver://k2:hunter22@db/catalog", "file:///nowhere")


@pytest.mark.parametrize("uri", ["http://catalog:8181", "https://user:secret@catalog/v1", "rest://catalog"])
def test_a_rest_catalog_is_refused_by_name(uri: str) -> None:
    with pytest.raises(CatalogUnavailable, match="commits to SQL catalogs alone") as told:
        open_catalog(uri, "file:///tmp/warehouse")
    assert "secret" not in str(told.value)
