"""Dagster's own directory in a home: its settings name its own events, also in a home that was copied or moved."""

import shutil
from pathlib import Path

from k2_platform.dagster_storage import DagsterHome


def home(directory: Path) -> DagsterHome:
    return DagsterHome(directory, 4266, {})


def test_settings_that_were_written_are_known_as_such(tmp_path: Path) -> None:
    assert not home(tmp_path / "a").is_written
    home(tmp_path / "a").write()
    assert home(tmp_path / "a").is_written


def test_settings_of_a_copy_that_name_the_originals_events_count_as_not_written(tmp_path: Path) -> None:
    home(tmp_path / "a").write()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert not home(tmp_path / "b").is_written
    home(tmp_path / "b").write()
    assert str(tmp_path / "a") not in (tmp_path / "b" / "dagster.yaml").read_text(encoding="utf-8")
    assert home(tmp_path / "a").is_written


def test_settings_with_another_storage_of_events_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage:\n  postgres: {}\n", encoding="utf-8")
    assert home(tmp_path).is_written
