"""The package as its users install it: the wheel alone, in a fresh environment, used from another directory."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_ports
from repository import REPOSITORY
from running_stack import eventually

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_market.feeds.feed import load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_resources.settings import SHIPPED_FEEDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PORTS = ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "REGISTRY_PORT", "DAGSTER_PORT", "CODE_SERVER_PORT", "METRICS_PORT")
BUILT_OF = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy of the packages and of nothing else of the repository."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_OF:
        shutil.copy2(REPOSITORY / name, source / name)
    for package in REPOSITORY.glob("k2_*/"):
        if (package / "__init__.py").exists():
            shutil.copytree(package, source / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(command, cwd=source, check=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The ``k2`` command of a fresh environment with the packages of the lock; K2_WHEEL_PYTHON names another Python."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([os.environ.get("K2_WHEEL_PYTHON", sys.executable), "-m", "venv", place], check=True)
    pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", REPOSITORY / "requirements.lock"], check=True)
    subprocess.run([*pip, wheel], check=True)
    return place / "bin" / "k2"


class InstalledK2:
    """The installed command, on a home and ports of its own, run from a directory that is no checkout."""

    def __init__(self, command: Path, directory: Path, java: Path) -> None:
        self.home = directory / "home of k2"
        self.home.mkdir(parents=True)
        (self.home / "java").symlink_to(java)
        self._elsewhere = directory / "notebooks"
        self._elsewhere.mkdir()
        self._command = command
        ports = {f"K2_{name}": str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        own = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "PYTHON"))}
        self._environment = own | ports | {"K2_HOME": str(self.home)}

    def run(self, *arguments: str) -> str:
        """What it writes to its standard output."""
        done = subprocess.run(
            [self._command, *arguments],
            cwd=self._elsewhere,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, f"k2 {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout


def built_days(k2: InstalledK2) -> list[dict[str, Any]]:
    """The days of ``sim`` whose bars are of all their rows."""
    return [day for day in json.loads(k2.run("days", "--feed", "sim", "--json")) if day["bars"] == "current"]


@pytest.fixture
def k2(installed: Path, tmp_path: Path, java_artifacts: JavaArtifacts) -> Iterator[InstalledK2]:
    java_artifacts.kafka_classpath(), java_artifacts.registry_directory()
    command = InstalledK2(installed, tmp_path, java_artifacts.directory)
    try:
        yield command
    finally:
        command.run("down")


def test_the_wheel_holds_every_file_of_the_packages_that_is_no_code(wheel: Path) -> None:
    packages = [path for path in REPOSITORY.glob("k2_*/") if (path / "__init__.py").exists()]
    files = [path for package in packages for path in package.rglob("*") if path.is_file()]
    needed = {str(path.relative_to(REPOSITORY)) for path in files if "__pycache__" not in path.parts}
    assert needed <= set(zipfile.ZipFile(wheel).namelist())


def test_the_installed_wheel_goes_from_nothing_to_bars_in_another_directory(k2: InstalledK2) -> None:
    assert k2.run("--version").startswith("k2 ")
    k2.run("up")
    calendar = TradingCalendar.of(load_feeds([SHIPPED_FEEDS])["sim"])
    day = calendar.previous_trading_day(calendar.trading_day_of(datetime.now(UTC))).isoformat()
    k2.run("simulate", "--feed", "sim", "--date", day, "--trades", "500", "--symbols", "2")
    (known,) = eventually(lambda: built_days(k2), "bars of the day that was sent, made by the daemon")
    bars = json.loads(k2.run("bars", "SIM1", "--feed", "sim", "--date", day, "--interval", "1d", "--format", "json"))
    assert [bar["trade_date"] for bar in bars] == [day]
    (counted,) = json.loads(k2.run("sql", "SELECT count(*) AS trades FROM sim.trades", "--format", "json"))
    assert counted["trades"] == known["trades"] > 0
    parts = json.loads(k2.run("status", "--json"))["services"]
    assert {part["state"] for part in parts} == {"running"}
    assert json.loads((k2.home / "home.json").read_text(encoding="utf-8"))["format"] >= 1
    k2.run("down")
    assert {part["state"] for part in json.loads(k2.run("status", "--json"))["services"]} == {"stopped"}
