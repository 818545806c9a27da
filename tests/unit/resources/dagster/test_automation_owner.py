"""One Dagster instance automates a home at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import ServiceError
from k2_resources.dagster.automation_owner import Automator, claim, other_automator
from k2_resources.settings import Settings

LOAD = """
import sys
sys.argv = ["dagster", "api", "grpc"]
from k2_platform.code_location import defs
print(len(list(defs.sensors)), len(list(defs.schedules)), len(list(defs.assets)))
"""


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A process that lives until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield psutil.Process(process.pid)
        process.kill()


def of(process: psutil.Process, instance: str) -> Automator:
    return Automator(instance, process.pid, process.create_time())


def test_another_instance_is_refused_while_the_first_ones_process_lives(
    tmp_path: Path, sleeper: psutil.Process
) -> None:
    first, second = of(sleeper, "stack"), of(psutil.Process(), "dev")

    assert claim(tmp_path, first) is None
    assert claim(tmp_path, second) == first
    sleeper.kill()
    sleeper.wait(10)
    assert claim(tmp_path, second) is None
    assert other_automator(tmp_path, "stack") == second


def test_a_process_of_the_same_instance_takes_over_as_a_reload_does(tmp_path: Path, sleeper: psutil.Process) -> None:
    assert claim(tmp_path, of(sleeper, "dev")) is None
    assert claim(tmp_path, of(psutil.Process(), "dev")) is None
    assert other_automator(tmp_path, "stack") == of(psutil.Process(), "dev")


def test_another_process_of_the_same_id_is_not_the_one_that_claimed(tmp_path: Path, sleeper: psutil.Process) -> None:
    claim(tmp_path, Automator("stack", sleeper.pid, sleeper.create_time() - 100))

    assert claim(tmp_path, of(psutil.Process(), "dev")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_claim_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "automation.json").write_text(text, encoding="utf-8")

    assert claim(tmp_path, of(psutil.Process(), "dev")) is None


def test_a_second_instance_loads_the_assets_without_sensors_and_schedules(
    tmp_path: Path, sleeper: psutil.Process
) -> None:
    settings = Settings(home=tmp_path / "k2", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")

    def loaded(instance: str) -> list[int]:
        environment = os.environ | settings.environment_variables() | {"DAGSTER_HOME": str(tmp_path / instance)}
        done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
        return [int(count) for count in done.stdout.split()]

    claim(settings.home, of(sleeper, str(tmp_path / "stack")))

    sensors, schedules, assets = loaded("stack")
    assert sensors > 10
    assert schedules > 0
    claim(settings.home, of(sleeper, str(tmp_path / "stack")))
    assert loaded("dev") == [0, 0, assets]


def test_the_stack_does_not_start_beside_another_instance_that_automates_its_home(
    tmp_path: Path, sleeper: psutil.Process
) -> None:
    settings = Settings(home=tmp_path / "k2")
    claim(settings.home, of(sleeper, "process 7"))

    with pytest.raises(ServiceError, match=rf"pid {sleeper.pid} of the Dagster instance process 7 automates this home"):
        LocalStack.of(settings).up(lambda _: None)
