"""Which lines of the log a person gets who asks for some, and how they look."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from k2_cli.output.log_lines import LogFilter, LogFilterError, LogLine, matching_lines, shown

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)


def line(minutes: int = 0, level: str = "info", message: str = "done", **fields: Any) -> str:
    time = (NOW - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": time, "level": level, "component": "iceberg", "message": message, **fields})


def log(directory: Path, *files: list[str]) -> Path:
    """A log whose last file is the one that is written to, the others rotated ones, oldest first."""
    path = directory / "k2.jsonl"
    for number, lines in enumerate(reversed(files)):
        file = path if number == 0 else path.with_name(f"k2.jsonl.{number}")
        file.write_text("".join(f"{each}\n" for each in lines))
    return path


def asked(path: Path, most: int = 0, **wanted: Any) -> list[str]:
    usual: dict[str, Any] = {"since": None, "level": "info", "feed": None, "component": None, "contains": None}
    found = matching_lines(path, LogFilter.parse(**{**usual, **wanted}, now=NOW), most)
    return [each.fields.get("message", each.text) for each in found]


def test_lines_come_from_all_files_oldest_first_and_the_last_of_them_when_few_are_asked_for(tmp_path: Path) -> None:
    path = log(tmp_path, [line(9, message="a")], [line(5, message="b")], [line(1, message="c"), "no JSON"])

    assert asked(path) == ["a", "b", "c", "no JSON"]
    assert asked(path, most=2) == ["c", "no JSON"]


def test_a_level_lets_itself_and_worse_ones_through(tmp_path: Path) -> None:
    path = log(tmp_path, [line(level=each, message=each) for each in ("debug", "info", "warning", "error")])

    assert asked(path) == ["info", "warning", "error"]
    assert asked(path, level="warn") == ["warning", "error"]
    assert asked(path, level="DEBUG") == ["debug", "info", "warning", "error"]


@pytest.mark.parametrize("since", ["10m", "600s", "2026-11-30T13:50", "2026-11-30T14:50+01:00"])
def test_only_lines_since_a_time_are_given(tmp_path: Path, since: str) -> None:
    path = log(tmp_path, [line(11, message="before"), line(9, message="after"), "no time"])

    assert asked(path, since=since) == ["after"]


def test_lines_about_a_feed_are_those_that_name_it_or_a_thing_of_it(tmp_path: Path) -> None:
    fields = [{"feed": "asx"}, {"table": "asx.trades"}, {"subject": "asx/raw_trades"}, {"job": "asx_ingest"}]
    others = [{"feed": "asx2"}, {"table": "sim.trades"}, {"reason": "asx"}, {}]
    path = log(tmp_path, [line(message=str(n), **each) for n, each in enumerate([*fields, *others])])

    assert asked(path, feed="asx") == ["0", "1", "2", "3"]


def test_lines_of_a_component_or_with_a_text_are_given(tmp_path: Path) -> None:
    path = log(tmp_path, [line(message="one", run_id="4711"), line(message="two", component="alerts")])

    assert asked(path, contains="4711") == ["one"]
    assert asked(path, component="alerts") == ["two"]


@pytest.mark.parametrize(
    ("wanted", "named"), [({"level": "loud"}, "--level loud"), ({"since": "yesterday"}, "--since yesterday")]
)
def test_a_filter_that_can_not_be_understood_is_refused_with_what_is_expected(
    wanted: dict[str, str], named: str
) -> None:
    usual: dict[str, Any] = {"since": None, "level": "info", "feed": None, "component": None, "contains": None}
    with pytest.raises(LogFilterError, match=f"{named}: expected"):
        LogFilter.parse(**{**usual, **wanted}, now=NOW)


def test_a_line_is_shown_with_its_time_first_and_nothing_that_steers_a_terminal() -> None:
    text = shown(LogLine.parse(line(message="ended\x1b[31m", feed="asx", error=None, days=[1])))

    assert text == "2026-11-30 14:00:00  INFO    iceberg       ended\\x1b[31m  feed=asx  days=[1]"
    assert shown(LogLine.parse("plain")) == "plain"


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert asked(tmp_path / "k2.jsonl") == []
