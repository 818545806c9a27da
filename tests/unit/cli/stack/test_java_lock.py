import re
from pathlib import Path

import pytest

from k2_cli.stack.java_lock import JavaArtifactError, read_lock


def test_our_lock_pins_every_archive_by_version_and_sum() -> None:
    for artifacts in read_lock().values():
        for artifact in artifacts:
            assert re.fullmatch(r"[0-9a-f]{64}", artifact.sha256)
            assert re.search(r"\d", artifact.version)
            assert artifact.bytes > 0


def test_our_lock_names_no_file_twice() -> None:
    names = [artifact.file_name for artifacts in read_lock().values() for artifact in artifacts]
    assert len(names) == len(set(names))


def test_our_lock_has_one_version_of_kafka_in_all_its_parts() -> None:
    versions = {artifact.version for artifact in read_lock()["kafka"] if artifact.group == "org.apache.kafka"}
    assert len(versions) == 1


def test_a_lock_that_is_absent_or_broken_is_refused_by_name(tmp_path: Path) -> None:
    lock = tmp_path / "jars.lock.json"
    for content in (None, "{", "[]", '{"kafka": [{"group": "x"}]}'):
        if content is not None:
            lock.write_text(content, encoding="utf-8")
        with pytest.raises(JavaArtifactError, match=re.escape(str(lock))):
            read_lock(lock)
