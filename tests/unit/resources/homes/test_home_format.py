import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.homes.home_format import FORMAT, HomeFormat, HomeFormatError
from k2_platform.dagster_storage import DagsterHome
from k2_resources.homes.home_format import (
    FILE_NAME,
    STEPS,
    changes_needed,
    format_of,
    is_made,
    migrate,
    require_usable,
    stamp,
)

OLD_CLASS, NEW_CLASS = "module: k2_resources.kept_event_storage", "module: k2_resources.dagster.kept_event_storage"


def home_before_formats(directory: Path) -> Path:
    """A home as K2 left it before homes had formats: Dagster's settings name the event storage's former module."""
    DagsterHome(directory / "dagster", 4266, {}).write()
    settings = directory / "dagster" / "dagster.yaml"
    settings.write_text(settings.read_text(encoding="utf-8").replace(NEW_CLASS, OLD_CLASS), encoding="utf-8")
    (directory / "catalog.db").touch()
    return directory


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_every_format_is_led_to_by_one_step() -> None:
    assert len(STEPS) == FORMAT


@given(st.builds(HomeFormat, st.integers(min_value=0), st.text()))
def test_a_stamp_is_read_as_it_was_written(stamped: HomeFormat) -> None:
    assert HomeFormat.from_json(stamped.to_json(), "home.json") == stamped


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "{}", '{"format": "1", "k2": "0.1.0"}', '{"format": true, "k2": ""}']
)
def test_a_stamp_that_is_none_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(HomeFormatError, match=FILE_NAME):
        require_usable(tmp_path)


def test_a_home_that_was_stamped_is_usable_and_its_stamp_is_this_k2s(tmp_path: Path) -> None:
    stamp(tmp_path)
    require_usable(tmp_path)
    found = format_of(tmp_path)
    assert found is not None
    assert found.format == FORMAT
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_home_of_a_newer_k2_is_refused_with_both_versions_and_left_as_it_is(tmp_path: Path) -> None:
    newer = {"format": FORMAT + 1, "k2": "7.8.9"}
    (tmp_path / FILE_NAME).write_text(json.dumps(newer), encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(HomeFormatError, match=rf"has format {FORMAT + 1}, written by K2 7\.8\.9; this is K2 "):
        require_usable(tmp_path)
    assert contents(tmp_path) == before


def test_a_home_from_before_formats_asks_for_the_migration_and_names_the_file(tmp_path: Path) -> None:
    home = home_before_formats(tmp_path)
    before = contents(home)
    with pytest.raises(HomeFormatError, match=r"dagster/dagster\.yaml must be changed .*`k2 migrate`"):
        require_usable(home)
    assert contents(home) == before


def test_a_migration_changes_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    home = home_before_formats(tmp_path)
    before = contents(home)
    changes = changes_needed(home)
    migrate(home, changes)
    after = contents(home)
    assert {path for path in after if after[path] != before.get(path)} == {*(each.path for each in changes), FILE_NAME}
    assert before.keys() <= after.keys()
    assert DagsterHome(home / "dagster", 4266, {}).is_written
    assert NEW_CLASS in (home / "dagster" / "dagster.yaml").read_text(encoding="utf-8")
    require_usable(home)


def test_a_migration_that_was_interrupted_before_its_stamp_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    home = home_before_formats(tmp_path)
    migrate(home, changes_needed(home))
    whole = contents(home)
    (home / FILE_NAME).unlink()
    assert changes_needed(home) == ()
    migrate(home, changes_needed(home))
    assert contents(home) == whole


def test_a_home_without_a_stamp_and_with_nothing_to_change_is_usable(tmp_path: Path) -> None:
    DagsterHome(tmp_path / "dagster", 4266, {}).write()
    require_usable(tmp_path)


def test_downloads_alone_make_no_home(tmp_path: Path) -> None:
    assert not is_made(tmp_path / "absent")
    (tmp_path / "java").mkdir()
    assert not is_made(tmp_path)
    (tmp_path / "logs").mkdir()
    assert is_made(tmp_path)
