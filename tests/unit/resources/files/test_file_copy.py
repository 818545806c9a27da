"""Copies of files and databases: whole, accounted for, and changed by nothing that happens to the original."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.homes.backup_manifest import BackupError, BackupFile
from k2_resources.files.file_copy import CopiedFiles, copy_database, copy_verified, is_database


@pytest.fixture
def copied(tmp_path: Path) -> CopiedFiles:
    (tmp_path / "backup").mkdir()
    return CopiedFiles(tmp_path / "backup")


def database(path: Path, rows: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (n INTEGER)")
        connection.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in range(rows)])
        connection.commit()


def numbers(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM numbers").fetchone()
    return int(found)


@given(st.binary(max_size=3_000_000))
def test_a_copy_is_on_the_list_with_its_size_and_its_sha256(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    directory = tmp_path_factory.mktemp("copy")
    (directory / "source").write_bytes(content)
    copied = CopiedFiles(directory)
    copied.copy(directory / "source", "a/b/c")
    assert (directory / "a/b/c").read_bytes() == content
    assert copied.files == {"a/b/c": BackupFile("a/b/c", len(content), hashlib.sha256(content).hexdigest())}


def test_what_is_appended_to_a_file_later_is_not_in_its_copy(copied: CopiedFiles, tmp_path: Path) -> None:
    source = tmp_path / "00000.log"
    source.write_bytes(b"before")
    copied.copy(source, "log")
    with source.open("ab") as stream:
        stream.write(b"after")
    with source.open("r+b") as stream:
        stream.write(b"CHANGE")
    assert (copied.directory / "log").read_bytes() == b"before"
    assert (copied.directory / "log").stat().st_ino != source.stat().st_ino


def test_a_second_copy_takes_the_place_of_the_first_on_disk_and_on_the_list(
    copied: CopiedFiles, tmp_path: Path
) -> None:
    for content in (b"a longer text", b"short"):
        (tmp_path / "source").write_bytes(content)
        copied.copy(tmp_path / "source", "copy")
    assert (copied.directory / "copy").read_bytes() == b"short"
    assert copied.holds("copy", 5)
    assert not copied.holds("copy", 13)


def test_a_database_is_copied_with_what_lies_in_its_write_ahead_log_alone(copied: CopiedFiles, tmp_path: Path) -> None:
    source = tmp_path / "runs.db"
    database(source, 5)
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("INSERT INTO numbers VALUES (5)")
        writer.commit()  # lies in the log beside the file for as long as this connection is open
        writer.execute("INSERT INTO numbers VALUES (6)")  # not committed
        copied.copy_database(source, "dagster/runs.db")
    assert numbers(copied.directory / "dagster/runs.db") == 6
    listed = copied.files["dagster/runs.db"]
    assert listed.size == (copied.directory / "dagster/runs.db").stat().st_size


def test_a_damaged_database_is_refused_by_its_name(copied: CopiedFiles, tmp_path: Path) -> None:
    source = tmp_path / "runs.db"
    database(source, 5_000)
    with source.open("r+b") as stream:
        stream.seek(4096 + 16)
        stream.write(b"\xff" * 8192)
    with pytest.raises(BackupError, match=r"runs\.db (is damaged|can't be copied)"):
        copied.copy_database(source, "runs.db")


def test_a_database_that_is_not_there_is_not_made(copied: CopiedFiles, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_database(tmp_path / "none.db", copied.directory / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_database_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    database(tmp_path / "without-an-ending", 1)
    (tmp_path / "text.db").write_text("no database")
    assert is_database(tmp_path / "without-an-ending")
    assert not is_database(tmp_path / "text.db")


@pytest.mark.parametrize("damage", [b"changeX", b"change", b"changed!", b""])
def test_a_file_that_is_not_as_it_was_backed_up_is_not_restored_as_if_it_were(tmp_path: Path, damage: bytes) -> None:
    file = BackupFile("f", 7, hashlib.sha256(b"changed").hexdigest())
    (tmp_path / "f").write_bytes(damage)
    with pytest.raises(BackupError, match=r"found .* bytes with SHA-256 .*, expected 7 bytes"):
        copy_verified(file, tmp_path / "f", tmp_path / "restored")


def test_a_file_that_is_gone_from_the_backup_is_named(tmp_path: Path) -> None:
    file = BackupFile("f", 7, hashlib.sha256(b"changed").hexdigest())
    with pytest.raises(BackupError, match="the backup is not whole"):
        copy_verified(file, tmp_path / "f", tmp_path / "restored")


def test_nothing_that_is_there_is_overwritten_by_a_restore(tmp_path: Path) -> None:
    file = BackupFile("f", 7, hashlib.sha256(b"changed").hexdigest())
    (tmp_path / "f").write_bytes(b"changed")
    (tmp_path / "there").write_bytes(b"kept")
    with pytest.raises(BackupError):
        copy_verified(file, tmp_path / "f", tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"kept"
