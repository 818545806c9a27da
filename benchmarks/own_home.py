"""A home of a benchmark's own: the local stack on free ports, started and stopped by ``k2`` as users do it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench_stack import free_ports
from k2_resources.settings import Settings


@contextmanager
def own_home(**settings: Any) -> Iterator[Settings]:
    """Settings of an empty home, its Java programs those of the usual home; what runs there ends with the block."""
    directory = Path(tempfile.mkdtemp(prefix="k2-bench-"))
    names = ("kafka_port", "kafka_controller_port", "registry_port", "dagster_port", "code_server_port", "metrics_port")
    own = Settings(home=directory, **dict(zip(names, free_ports(len(names)), strict=True)), **settings)
    usual = Settings.load().home / "java"
    if usual.exists():
        (directory / "java").symlink_to(usual)
    try:
        yield own
    finally:
        k2(own, "down")
        shutil.rmtree(directory, ignore_errors=True)


def k2(settings: Settings, *arguments: str) -> str:
    """Run a command of ``k2`` and return what it printed.

    Raises:
        RuntimeError: It failed; says what it said.
    """
    command = [sys.executable, "-c", "from k2_cli.main import app; app()", *arguments]
    environment = {**os.environ, **settings.environment_variables()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"k2 {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
