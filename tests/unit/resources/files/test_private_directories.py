"""Directories of a home are their owner's alone."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_market.feeds.feed import load_feeds
from k2_platform.dagster_storage import DagsterHome, DagsterHomeRefused
from k2_platform.kept_closures import looked_up
from k2_resources.files.private_directories import make_private
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.settings import Settings


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_directory_and_those_above_it_that_were_not_there_are_their_owners_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert [mode(tmp_path / each) for each in (".", "a", "a/b", "a/b/c")] == [0o755, 0o700, 0o700, 0o700]


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o750)
    make_private(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o750


@pytest.mark.parametrize("inside", ["", "/below"])
def test_a_file_in_the_way_is_an_error(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_private(Path(f"{tmp_path}/file{inside}"))


def test_a_home_that_k2_makes_is_its_owners_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    makers: list[Callable[[], object]] = [
        lambda: open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse),
        lambda: DagsterHome(settings.dagster_home, settings.code_server_port, {}).write(),
        lambda: looked_up(settings, load_feeds(settings.feed_directories)),
    ]
    for make in makers:
        make()
        assert mode(settings.home) == 0o700
        shutil.rmtree(settings.home)


def test_a_home_below_which_dagsters_sqlite_would_write_to_another_file_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "a?b")
    with pytest.raises(DagsterHomeRefused, match=r"dagster: .*a\?b.* can't lie below a path with \?; set K2_HOME"):
        DagsterHome(settings.dagster_home, settings.code_server_port, {}).write()
    assert list(tmp_path.iterdir()) == []
