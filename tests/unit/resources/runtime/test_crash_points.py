"""Tests can kill or stop a process at a named point of K2's code; without them the points do nothing."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from repository import REPOSITORY
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

PROGRAM = """
from k2_resources.runtime import crash_points
for number in range(3):
    print(number, flush=True)
    crash_points.reached("here")
    crash_points.reached("there")
"""


def start(**environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("setting", "printed"), [("here", "0\n"), ("there:2", "0\n1\n")])
def test_a_process_dies_at_the_time_of_coming_to_the_point_that_was_named(setting: str, printed: str) -> None:
    process = start(K2_CRASH_AT=setting)
    assert process.communicate(timeout=30)[0] == printed
    assert process.returncode == -signal.SIGKILL


def test_a_process_stops_at_the_point_once_and_goes_on_when_continued() -> None:
    process = start(K2_PAUSE_AT="here:2")
    stopped = Retrying(retry=retry_if_result(lambda status: status != psutil.STATUS_STOPPED), wait=wait_fixed(0.02))
    stopped.copy(stop=stop_after_delay(30))(psutil.Process(process.pid).status)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30)[0] == "0\n1\n2\n"
    assert process.returncode == 0


def test_outside_of_tests_no_environment_variable_ends_a_process() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "K2_CRASH_AT": "here", "K2_PAUSE_AT": "there"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.returncode, process.stdout) == (0, "0\n1\n2\n")


def test_without_a_setting_nothing_happens() -> None:
    process = start(K2_CRASH_AT="", K2_PAUSE_AT="elsewhere")
    assert process.communicate(timeout=30)[0] == "0\n1\n2\n"
    assert process.returncode == 0
