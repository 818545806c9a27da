"""Telling whether the process that carries out a run is gone: only what is certain counts."""

import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from k2_assets.records.run_process import RunProcess


def test_a_process_is_told_from_a_later_one_of_its_number_and_from_one_of_another_host_or_boot() -> None:
    own = RunProcess.own()

    assert not own.is_gone()
    assert replace(own, started=own.started - 100).is_gone()
    assert replace(own, boot="another").is_gone()
    assert not replace(own, host="another", boot="another").is_gone()


def test_a_process_that_ended_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = RunProcess.of(psutil.Process(process.pid))
    assert not found.is_gone()
    process.communicate(b"\n")

    assert found.is_gone()


def test_a_process_that_may_not_be_looked_at_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(psutil.Process):
        def create_time(self) -> float:
            raise psutil.AccessDenied(self.pid)

    own = RunProcess.own()
    monkeypatch.setattr(psutil, "Process", Denied)

    assert not own.is_gone()


def test_a_process_comes_back_from_its_text() -> None:
    assert RunProcess.parse(str(RunProcess.own())) == RunProcess.own()
