"""Directories of a home are their owner's alone."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2_cli.main import app
from k2_resources.private_directories import make_private
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


@pytest.mark.parametrize("command", [["sql", "SELECT 1"], ["status"]])
def test_a_home_that_a_command_makes_is_its_owners_alone(tmp_path: Path, command: list[str]) -> None:
    settings = Settings(home=tmp_path / "home", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    CliRunner().invoke(app, command, env=settings.environment_variables())
    if settings.home.exists():
        assert mode(settings.home) == 0o700
    assert settings.home.exists() or command == ["status"]
