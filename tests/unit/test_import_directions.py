import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

ROOMS = ("k2_market", "k2_resources", "k2_assets", "k2_sensors", "k2_platform", "k2_cli")
TURNED_ROUND = [
    ("k2_market/feeds/feed.py", "k2_resources.settings"),
    ("k2_market/feeds/feed.py", "k2_cli.main"),
    ("k2_resources/settings.py", "k2_assets.records.partitions"),
    ("k2_assets/records/partitions.py", "k2_sensors"),
    ("k2_assets/records/partitions.py", "k2_cli.main"),
    ("k2_sensors/__init__.py", "k2_platform.definitions"),
    ("k2_platform/definitions.py", "k2_cli.main"),
    ("k2_market/values/symbols.py", "k2_market.bars"),
    ("k2_market/verification/invariants.py", "k2_market.ledger.ledger"),
    ("k2_resources/iceberg/catalog.py", "k2_resources.raw.table"),
    ("k2_assets/records/run_scope.py", "k2_assets.bars"),
    ("k2_cli/stack/local_stack.py", "k2_cli.commands.up"),
]
OUT_OF_THE_PURE_ROOM = ["dagster", "confluent_kafka", "os", "time", "urllib.request"]


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run([*command, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of our packages that a test may spoil."""
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / ".importlinter", tmp_path)
    return tmp_path


def test_our_imports_go_one_way() -> None:
    result = lint(REPOSITORY)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("importer", "imported"), TURNED_ROUND)
def test_an_import_turned_round_is_refused(house: Path, importer: str, imported: str) -> None:
    assert_refused(house, importer, imported)


@pytest.mark.parametrize("imported", OUT_OF_THE_PURE_ROOM)
def test_the_domain_may_not_reach_outside(house: Path, imported: str) -> None:
    assert_refused(house, "k2_market/feeds/feed.py", imported)


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_without_a_home_is_refused(house: Path, room: str) -> None:
    (house / room / "helpers.py").write_text('"""Helps."""\n', encoding="utf-8")
    result = lint(house)
    assert result.returncode == 1
    assert f"{room}.helpers" in result.stdout


def test_a_cycle_of_modules_and_of_sub_packages_is_printed(house: Path) -> None:
    script = house / "deploy" / "local" / "module_cycles.py"
    script.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "deploy" / "local" / "module_cycles.py", script)
    assert subprocess.run([sys.executable, script], capture_output=True, text=True, check=False).stdout == ""
    feed = house / "k2_market" / "feeds" / "feed.py"
    feed.write_text(f"{feed.read_text()}\n\ndef _late() -> None:\n    import k2_market.plans.build_plan\n")
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "k2_market.feeds.feed -> k2_market.plans.build_plan" in found.stdout
    assert "k2_market.plans -> k2_market.feeds" in found.stdout


def assert_refused(house: Path, importer: str, imported: str) -> None:
    path = house / importer
    path.write_text(path.read_text(encoding="utf-8") + f"\nimport {imported}\n", encoding="utf-8")
    result = lint(house)
    name = importer.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    assert result.returncode == 1
    assert f"{name} -> {imported.split('.')[0]}" in result.stdout, result.stdout
