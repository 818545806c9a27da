"""A PostgreSQL server of a test's own, as a server's catalog has it; it can be restarted in the middle of anything."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import free_ports

_USER = "postgres"


@dataclass(frozen=True)
class OwnPostgres:
    """A server with its data in a directory."""

    directory: Path
    port: int

    @property
    def uri(self) -> str:
        """Its database for a catalog, as SQLAlchemy names it."""
        return f"postgresql+psycopg2://{_USER}@127.0.0.1:{self.port}/{_USER}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory}"
        self._run(["pg_ctl", "-D", str(self.directory / "data"), "-l", str(self.directory / "log"), "-o", options])

    def stop(self) -> None:
        """Stop it at once, as a crash would: what is not committed is gone."""
        self._run(["pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate"], "stop")

    def restart(self) -> None:
        """Stop it at once and start it again."""
        self.stop()
        self.start()

    def _run(self, command: Sequence[str], action: str = "start") -> None:
        _as_its_user([command[0], "-w", action, *command[1:]])


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """One that runs for as long as the block does; the test is skipped where there is none to be had."""
    pytest.importorskip("psycopg2", reason="the catalog on PostgreSQL needs psycopg2")
    if shutil.which("pg_ctl") is None or shutil.which("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    # Not below pytest's own directory, which its user may not enter.
    with tempfile.TemporaryDirectory(prefix="k2-postgres-") as name:
        server = OwnPostgres(Path(name), free_ports(1)[0])
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_USER)
            os.chown(name, owner.pw_uid, owner.pw_gid)
        _as_its_user(["initdb", "-U", _USER, "-A", "trust", "--no-sync", "-D", str(server.directory / "data")])
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _as_its_user(command: Sequence[str]) -> None:
    """PostgreSQL does not run as root."""
    as_user = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
    program = shutil.which(command[0])
    done = subprocess.run(
        [*as_user, str(program), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
