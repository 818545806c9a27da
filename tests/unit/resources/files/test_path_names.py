"""Files and directories named for SQLAlchemy and Iceberg lead back to themselves, whatever their paths hold."""

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO
from sqlalchemy import create_engine, make_url, text

from k2_resources.files.path_names import directory_location, sqlite_uri
from k2_resources.iceberg.catalog_identity import local_directory, same_place, sqlite_file
from k2_resources.settings import Settings

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: Path("/", *names))


@given(PATHS)
@example(Path("/a#b"))
@example(Path("/a?b=c&d"))
@example(Path("/a%23 b;c@d:e"))
def test_a_database_is_the_file_that_was_named(path: Path) -> None:
    url = make_url(sqlite_uri(path))
    assert sqlite_file(url) == path


@given(PATHS)
@example(Path("/a#b"))
@example(Path("/a?b"))
@example(Path("/a%20b"))
@example(Path("/a\tb\n"))
def test_a_location_is_the_directory_that_was_named(path: Path) -> None:
    location = directory_location(path)
    assert PyArrowFileIO.parse_location(location) == ("file", "", str(path))
    assert local_directory(location) == path
    assert same_place(f"{location}/asx/trades") == f"{same_place(location)}/asx/trades"


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%23b", "a b", "ä@:;&=+,'\"[*]", "a?b#c%3F"])
def test_a_database_is_opened_where_it_was_named_and_nowhere_else(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    engine = create_engine(Settings(home=home).iceberg_catalog_uri)
    with closing(engine.connect()) as connection:
        connection.execute(text("CREATE TABLE here (n INTEGER)"))
    engine.dispose()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path(name, "catalog.db")]
