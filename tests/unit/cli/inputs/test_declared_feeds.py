"""The feeds that commands work on: a wrong file is named and harms no other; one that is asked for fails with why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import SHIPPED_FEEDS
from typer.testing import CliRunner, Result

from k2_cli.main import app

SIM = (SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home, and feeds of which one has no calendar and one is no TOML."""
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    (tmp_path / "home").mkdir()
    tase = SIM.replace('"sim"', '"tase"', 1).replace(".sim", ".tase").replace("XNYS", "XTAE")
    (feeds / "tase.toml").write_text(tase, encoding="utf-8")
    (feeds / "broken.toml").write_text("name = ", encoding="utf-8")
    return {
        "K2_HOME": str(tmp_path / "home"),
        "K2_FEEDS_DIR": str(feeds),
        "K2_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "K2_REGISTRY_URL": "http://127.0.0.1:1",
    }


def k2(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


def test_status_names_each_refused_file_with_key_and_reason_and_goes_on(environment: dict[str, str]) -> None:
    shown = k2(environment, "status")
    assert shown.exit_code == 0
    assert "daemon" in shown.stdout
    assert "tase.toml: key calendar: the sessions of 'XTAE' can't be had" in shown.stderr
    assert "broken.toml: not valid TOML" in shown.stderr
    refused = json.loads(k2(environment, "status", "--json").stdout)["refused_feed_files"]
    assert [file["name"] for file in refused] == ["broken", "tase"]
    assert refused[1]["reason"].startswith("key calendar: ")


def test_sql_names_a_file_that_is_wrong_in_itself_and_answers(environment: dict[str, str]) -> None:
    answered = k2(environment, "sql", "SELECT count(*) AS rows FROM asx.trades", "--format", "json")
    assert answered.exit_code == 0, answered.output
    assert json.loads(answered.stdout) == [{"rows": 0}]
    assert "feed file refused, the other feeds go on" in answered.stderr
    assert "broken.toml" in answered.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("load", "--feed", "tase", "trades.csv"),
        ("simulate", "--feed", "tase", "--date", "2026-11-20"),
        ("catch-up", "--feed", "tase"),
        ("verify", "ledger", "--feed", "tase"),
        ("repair", "--feed", "tase", "--dead-letters"),
        ("maintain", "--feed", "tase"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_for_a_feed_without_calendar_fails_with_file_key_and_reason(
    command: tuple[str, ...], environment: dict[str, str]
) -> None:
    refused = k2(environment, *command)
    assert refused.exit_code == 1
    assert "tase.toml: key calendar: the sessions of 'XTAE' can't be had" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_command_for_a_feed_whose_file_is_broken_says_so(environment: dict[str, str]) -> None:
    refused = k2(environment, "bars", "BHP", "--feed", "broken", "--date", "2026-11-20")
    assert refused.exit_code == 1
    assert "broken.toml: not valid TOML" in refused.stderr


@pytest.mark.parametrize(
    "command", [("sql", "SELECT 1"), ("bars", "BHP", "--feed", "sim", "--date", "2026-11-20")], ids=lambda it: it[0]
)
def test_a_command_that_needs_no_calendar_does_not_import_the_library(
    command: tuple[str, ...], environment: dict[str, str]
) -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from k2_cli.main import app
CliRunner().invoke(app, {list(command)!r})
print("exchange_calendars" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
