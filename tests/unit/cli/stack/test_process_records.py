import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from k2_cli.stack.process_records import ProcessRecord, read_record

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_record_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    record = ProcessRecord.of(os.getpid(), ["k2", "up"])
    record.save(tmp_path / "run" / "kafka.json")
    assert read_record(tmp_path / "run" / "kafka.json") == record
    assert record.is_running()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "created": 0, "command": []}'])
def test_a_file_that_holds_no_record_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "kafka.json").write_text(content, encoding="utf-8")
    assert read_record(tmp_path / "kafka.json") is None
    assert read_record(tmp_path / "absent.json") is None


def test_an_id_that_was_given_to_another_process_is_not_ours() -> None:
    record = ProcessRecord.of(os.getpid(), ["k2", "up"])
    assert not replace(record, created=record.created - 3600).is_running()


def test_a_clock_that_was_set_right_does_not_make_our_process_a_stranger() -> None:
    process = subprocess.Popen(SLEEPS)
    try:
        record = ProcessRecord.of(process.pid, SLEEPS)
        while not psutil.Process(process.pid).cmdline():
            assert process.poll() is None
        assert replace(record, created=record.created - 3600).is_running()
    finally:
        process.kill()
        process.wait()


def test_a_process_that_ended_is_not_running_even_before_it_is_reaped() -> None:
    process = subprocess.Popen(SLEEPS)
    record = ProcessRecord.of(process.pid, SLEEPS)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not record.is_running()
    process.wait()
    assert not record.is_running()


def test_a_copied_record_is_not_taken_for_a_process_of_the_copy(tmp_path: Path) -> None:
    record = ProcessRecord.of(os.getpid(), ["k2", "up"])
    record.save(tmp_path / "original" / "run" / "kafka.json")
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    assert read_record(tmp_path / "copy" / "run" / "kafka.json") is None
    assert read_record(tmp_path / "original" / "run" / "kafka.json") == record


def test_a_record_of_a_home_that_was_moved_is_still_its_own(tmp_path: Path) -> None:
    record = ProcessRecord.of(os.getpid(), ["k2", "up"])
    record.save(tmp_path / "original" / "run" / "kafka.json")
    (tmp_path / "original").rename(tmp_path / "moved")
    assert read_record(tmp_path / "moved" / "run" / "kafka.json") == record
