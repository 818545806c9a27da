import subprocess
import sys
import types

import pytest
from typer.testing import CliRunner

from k2_cli.main import COMMANDS, app
from k2_market.errors import K2Error

HEAVY = (
    "confluent_kafka",
    "dagster",
    "duckdb",
    "exchange_calendars",
    "matplotlib",
    "numpy",
    "pandas",
    "polars",
    "psutil",
    "pyarrow",
    "pydantic",
    "pyiceberg",
    "rich",
    "sqlalchemy",
)


def test_help_names_every_command_and_what_it_does() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name, help_line in COMMANDS.items():
        assert f"{name} " in result.stdout
        assert help_line in result.stdout


def test_help_comes_at_once_since_nothing_heavy_is_imported() -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from k2_cli.main import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_says_what_it_does(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: k2 {name} " in result.stdout.replace("root", "k2")


def test_an_unknown_command_is_refused_with_the_nearest_one() -> None:
    result = CliRunner().invoke(app, ["statsu"])
    assert result.exit_code == 2
    assert "'status'" in result.stderr


@pytest.fixture
def failing_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """``k2 status`` in place of which one fails as an operator may cause it to."""

    def status() -> None:
        raise K2Error("feeds/asx.toml: key mic: expected four letters")

    module = types.ModuleType("k2_cli.commands.status")
    module.status = status
    monkeypatch.setitem(sys.modules, "k2_cli.commands.status", module)


@pytest.mark.usefixtures("failing_status")
def test_our_own_errors_are_a_message_and_not_a_traceback() -> None:
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert result.stderr == "k2: feeds/asx.toml: key mic: expected four letters\n"
    assert result.stdout == ""


def test_a_wrong_setting_is_a_message_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_KAFKA_PORT", "ninety")
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert "K2_KAFKA_PORT" in result.stderr
