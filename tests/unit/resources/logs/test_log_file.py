import logging
import multiprocessing
import os
from pathlib import Path

import pytest

from k2_resources.logs.log_file import SharedLogFile, log_files

LARGE = 10**9


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("k2.test", logging.INFO, __file__, 1, message, None, None)


def _write_lines(path: Path, letter: str) -> None:
    handler = SharedLogFile(path, LARGE, 5)
    for _ in range(200):
        handler.emit(record(letter * 20_000))


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "k2.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_lines, args=(path, letter)) for letter in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(letter * 20_000 for letter in "abc" for _ in range(200))


def _write_numbers(path: Path, writer: int) -> None:
    handler = SharedLogFile(path, 500, 1_000)
    for number in range(300):
        handler.emit(record(f"{writer} {number}"))


def test_a_log_that_several_processes_rotate_loses_no_line_and_keeps_their_order(tmp_path: Path) -> None:
    path = tmp_path / "k2.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_numbers, args=(path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    files = log_files(path)
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert len(files) > 3
    for writer in range(3):
        assert [line for line in lines if line.startswith(f"{writer} ")] == [f"{writer} {n}" for n in range(300)]


def test_of_logs_moved_away_so_many_are_kept_as_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "k2.jsonl"
    handler = SharedLogFile(path, 100, 2)
    for number in range(200):
        handler.emit(record(f"line {number}"))

    files = log_files(path)
    assert [file.name for file in files][:2] == ["k2.jsonl.2", "k2.jsonl.1"]
    assert [line for file in files for line in file.read_text().splitlines()][-1] == "line 199"


def test_a_file_moved_away_by_logrotate_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "k2.jsonl"
    handler = SharedLogFile(path, LARGE, 5)
    handler.emit(record("one"))
    path.rename(path.with_suffix(".1"))
    handler.emit(record("two"))
    path.unlink()
    handler.emit(record("three"))
    handler.close()

    assert path.with_suffix(".1").read_text() == "one\n"
    assert path.read_text() == "three\n"


def test_only_the_owner_may_read_the_log(tmp_path: Path) -> None:
    handler = SharedLogFile(tmp_path / "k2.jsonl", LARGE, 5)
    handler.emit(record("one"))

    assert os.stat(tmp_path / "k2.jsonl").st_mode & 0o077 == 0


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    handler = SharedLogFile(tmp_path / "file" / "k2.jsonl", LARGE, 5)

    for _ in range(3):
        handler.emit(record("lost"))

    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert str(tmp_path / "file" / "k2.jsonl") in complaint
