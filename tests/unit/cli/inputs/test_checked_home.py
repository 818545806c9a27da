import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from k2_cli.inputs.checked_home import checked_home
from k2_cli.main import COMMANDS, app
from k2_market.homes.home_format import FORMAT
from k2_platform.dagster_storage import DagsterHome
from k2_resources.homes.home_format import FILE_NAME, format_of, stamp
from k2_resources.settings import Settings

ARGUMENTS = {
    "bars": ["BHP", "--feed", "sim", "--date", "2026-11-20"],
    "sql": ["SELECT 1"],
    "load": ["trades.csv", "--feed", "sim"],
    "simulate": ["--feed", "sim", "--date", "2026-11-20"],
    "verify": ["ledger", "--feed", "sim"],
    "unload": ["an-id", "--feed", "sim"],
    "correct": ["--feed", "sim", "--symbol", "A", "--trade-id", "1", "--price", "1"],
    "cancel": ["--feed", "sim", "--symbol", "A", "--trade-id", "1"],
    "backup": ["elsewhere"],
    "restore": ["elsewhere"],
}
WITHOUT_A_FEED = {"demo", "up", "down", "status", "logs", "relocate", "clean-orphans", "migrate"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "k2"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k2").mkdir()
    return tmp_path / "k2"


def k2(name: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [name, *arguments])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_a_home_of_a_newer_k2_and_leaves_it_as_it_is(home: Path, name: str) -> None:
    newer = json.dumps({"format": FORMAT + 1, "k2": "7.8.9"})
    (home / FILE_NAME).write_text(newer, encoding="utf-8")
    result = k2(name, *ARGUMENTS.get(name, [] if name in WITHOUT_A_FEED else ["--feed", "sim"]))
    assert result.exit_code == 1, result.output
    assert f"k2: {home} has format {FORMAT + 1}, written by K2 7.8.9" in result.stderr
    assert [path.name for path in home.iterdir()] == [FILE_NAME]


def test_up_asks_for_a_migration_which_says_what_it_changes_and_does_it(home: Path) -> None:
    DagsterHome(home / "dagster", 4266, {}).write()
    settings = home / "dagster" / "dagster.yaml"
    current = settings.read_text(encoding="utf-8")
    old = current.replace("k2_resources.dagster.kept_event_storage", "k2_resources.kept_event_storage")
    settings.write_text(old, encoding="utf-8")
    refused = k2("up", "--only", "registry")
    assert refused.exit_code == 1
    assert "`k2 migrate`" in refused.stderr
    shown = k2("migrate", "--dry-run")
    assert (shown.exit_code, settings.read_text(encoding="utf-8"), format_of(home)) == (0, old, None)
    done = k2("migrate")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == shown.stdout.splitlines()[:2]
    assert "dagster/dagster.yaml: event_log_storage: module: k2_resources.dagster.kept_event_storage" in done.stdout
    assert settings.read_text(encoding="utf-8") == current
    assert "nothing to migrate" in k2("migrate").stdout


def test_a_home_is_stamped_by_the_command_that_makes_it(home: Path) -> None:
    home.rmdir()
    with checked_home("load"):
        (home / "logs").mkdir(parents=True)
    found = format_of(home)
    assert found is not None
    assert found.format == FORMAT


def test_commands_that_only_read_make_no_home_and_no_stamp(home: Path) -> None:
    home.rmdir()
    k2("bars", "BHP", "--feed", "sim", "--date", "2026-11-20")
    assert not home.exists()


def test_only_up_stamps_a_home_that_was_there_without_a_stamp(home: Path) -> None:
    (home / "logs").mkdir()
    with checked_home("sql"):
        pass
    assert format_of(home) is None
    with checked_home("up"):
        pass
    assert format_of(home) is not None


def test_a_stack_of_an_older_k2_can_be_stopped(home: Path) -> None:
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text("module: k2_resources.kept_event_storage\n", encoding="utf-8")
    assert k2("down").exit_code == 0


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(home)
    monkeypatch.setenv("K2_KAFKAPORT", "29092")
    monkeypatch.setenv("K2_TEST_DATA", "elsewhere")
    result = k2("sql", "SELECT 1")
    assert result.stderr == "k2: K2_KAFKAPORT is no setting and is ignored; did you mean K2_KAFKA_PORT?\n"


def test_no_setting_of_ours_is_called_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(home)
    for variable, value in Settings(home=home).environment_variables().items():
        monkeypatch.setenv(variable, value)
    assert k2("sql", "SELECT 1").stderr == ""
