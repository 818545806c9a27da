"""Copies the local registry's schemas while the registry runs, and proves the copy by the database's own tool.

H2 keeps them in one file that it writes to as it likes, so a copy may be torn. It is taken for good when the file did
not change while it was copied, H2 opens it, and it has every schema that the registry had given an id to before.
"""

import hashlib
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_cli.stack.java_artifacts import JavaArtifacts, java_executable, java_path
from k2_market.homes.backup_manifest import BackupError
from k2_resources.files.file_copy import CopiedFiles

SCHEMAS = "schemas.mv.db"
"""The file, in the registry's directory."""

_MOST_SECONDS = 90.0
_SECONDS_BETWEEN = 0.5
_TOOL_SECONDS = 60
_CONTENT_IDS = "SELECT contentId FROM content"


@dataclass(frozen=True)
class RegistryCopying:
    """Copies a registry's schemas.

    Attributes:
        directory: The registry's directory.
        artifacts: Its programs, H2 among them.
        known: The ids of the schemas that it knows, asked of the registry; None where it does not run.
    """

    directory: Path
    artifacts: JavaArtifacts
    known: Callable[[], frozenset[int]] | None

    def carry_out(self, copied: CopiedFiles, below: str) -> None:
        """Copy them.

        Args:
            copied: Where the copy goes.
            below: The directory within it.

        Raises:
            RegistryUnavailable: The registry runs and does not answer.
            BackupError: No whole copy was had in a minute and a half; or there is no room.
        """
        file, path = self.directory / SCHEMAS, f"{below}/{SCHEMAS}"
        if self.known is None:
            copied.copy(file, path)
            return
        wanted = self.known()
        trying = Retrying(
            retry=retry_if_result(lambda whole: not whole),
            wait=wait_fixed(_SECONDS_BETWEEN),
            stop=stop_after_delay(_MOST_SECONDS),
        )
        try:
            trying(self._is_copied, file, copied, path, wanted)
        except RetryError as error:
            raise BackupError(
                f"{file}: no copy was had in {_MOST_SECONDS:.0f} s that H2 can open and that has the {len(wanted)} "
                "schemas the registry knows. Stop the registry (`k2 down`) and take the backup then"
            ) from error

    def _is_copied(self, file: Path, copied: CopiedFiles, path: str, wanted: frozenset[int]) -> bool:
        copied.copy(file, path)
        with file.open("rb") as stream:
            unchanged = hashlib.file_digest(stream, "sha256").hexdigest() == copied.files[path].sha256
        return unchanged and wanted <= schema_ids_in(copied.directory / path, self.artifacts)


def schema_ids_in(file: Path, artifacts: JavaArtifacts) -> frozenset[int]:
    """Return the ids of the schemas in a registry's file, read by H2 itself; none where H2 can't open it.

    Raises:
        JavaArtifactError: Its programs can't be had.
        BackupError: The tool can't be run.
    """
    (archive,) = (artifacts.registry_directory() / "lib" / "main").glob("com.h2database.h2-*.jar")
    # Its name is relative to the directory: in H2's URL a semicolon would end it.
    url = f"jdbc:h2:file:./{file.name.removesuffix('.mv.db')};IFEXISTS=TRUE;ACCESS_MODE_DATA=r"
    command = [str(java_executable()), "-cp", java_path(archive, file.parent), "org.h2.tools.Shell"]
    command += ["-url", url, "-user", "sa", "-password", "sa", "-sql", _CONTENT_IDS]
    try:
        done = subprocess.run(
            command, cwd=file.parent, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BackupError(f"H2's tool can't be run on {file}: {error}") from error
    if done.returncode != 0:
        return frozenset()
    return frozenset(int(line) for line in done.stdout.splitlines() if re.fullmatch(r"\d+\s*", line))
