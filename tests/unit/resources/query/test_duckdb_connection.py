from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from k2_resources.query.duckdb_connection import (
    DuckDBExtensionError,
    identifier,
    literal,
    make_ready,
    open_connection,
    seal,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a readable one in it."""
    directory = tmp_path_factory.mktemp("sealed")
    for name in ("readable", "readable-not"):
        (directory / name).mkdir()
        (directory / name / "file.csv").write_text("a\n1\n")
    (directory / "outside.csv").write_text("a\n1\n")
    return directory


@pytest.fixture(scope="module")
def sealed(directory: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can reach ``readable`` and nothing else."""
    with open_connection(directory / "spill") as connection:
        seal(connection, [f"file://{directory / 'readable'}"])
        yield connection


def test_a_sealed_connection_reads_the_directories_that_it_was_given(
    sealed: duckdb.DuckDBPyConnection, directory: Path
) -> None:
    assert sealed.execute(f"SELECT a FROM '{directory}/readable/file.csv'").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '{}/outside.csv'",
        "SELECT * FROM '{}/readable/../outside.csv'",
        "SELECT * FROM '{}/readable-not/file.csv'",
        "SELECT * FROM read_text('{}/outside.csv')",
        "SELECT * FROM glob('{}/*')",
        "COPY (SELECT 1) TO '{}/new.csv'",
        "ATTACH '{}/new.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET TimeZone = 'America/New_York'",
        "SET memory_limit = '1TB'",
        "SELECT * FROM outside_variable",
    ],
)
def test_a_sealed_connection_can_neither_reach_further_nor_be_unsealed(
    sealed: duckdb.DuckDBPyConnection, directory: Path, sql: str
) -> None:
    outside_variable = [1]
    with pytest.raises(duckdb.Error):
        sealed.execute(sql.format(directory))
    assert outside_variable
    assert not (directory / "new.csv").exists()


def test_dates_of_timestamps_are_those_of_utc(sealed: duckdb.DuckDBPyConnection) -> None:
    found = sealed.execute("SELECT (TIMESTAMPTZ '2026-01-01 00:00:00+00')::DATE::TEXT").fetchall()
    assert found == [("2026-01-01",)]


def test_a_query_that_needs_more_than_its_memory_spills_and_cleans_up(tmp_path: Path) -> None:
    spill = tmp_path / "not" / "there" / "yet"
    with duckdb.connect(config={"memory_limit": "60MB", "threads": 1}) as connection:
        make_ready(connection, spill)
        seal(connection, [])
        sql = "SELECT count(*) FROM (SELECT DISTINCT x, repeat('k', 40) || x FROM range(600000) r(x))"
        assert connection.execute(sql).fetchall() == [(600_000,)]
        assert list(spill.iterdir()) != []
    assert list(spill.iterdir()) == []


def test_a_missing_extension_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_resources.query.duckdb_connection.files", no_such_package)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DuckDBExtensionError, match=r"install_extension\('avro'\)"):
        open_connection(tmp_path / "spill")


def no_such_package(package: str) -> Path:
    raise ModuleNotFoundError(package)


def test_quotes_in_names_and_texts_are_doubled() -> None:
    hostile = "o'b\"; DROP TABLE t"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE {identifier(hostile)} AS SELECT {literal(hostile)} AS it")
        assert connection.execute(f"FROM {identifier(hostile)}").fetchall() == [(hostile,)]
