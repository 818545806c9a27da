"""Ingestion in a process of its own, so that it can be stopped, continued and killed, or held to one plan."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from own_feeds import OwnFeed, eventually

from k2_resources.logs.structured_logging import LOG_FILE

CATCH_UP = "from k2_cli.main import app; app()"
"""The ``k2`` command, as a program."""

_SECONDS = 120


@dataclass
class IngestProcess:
    """A process that ingests; whatever a test does, it ends with the test."""

    process: "subprocess.Popen[str]"

    def is_stopped(self) -> bool:
        """Whether it has come to the point where it was to stop."""
        assert self.process.poll() is None, f"it ended before it was stopped: {self.ends()}"
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def wait_until_stopped(self) -> None:
        """Wait until it has come to the point where it was to stop."""
        eventually(self.is_stopped, "the process stops where it was told to")

    def go_on(self) -> None:
        """Continue it."""
        self.process.send_signal(signal.SIGCONT)

    def ends(self) -> tuple[int, str]:
        """Wait for its end: its exit code, and what it said."""
        output, errors = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, output + errors


@contextmanager
def running(own: OwnFeed, program: str, *arguments: str, **environment: str) -> Iterator[IngestProcess]:
    """A Python program in the environment of a feed's settings."""
    settings: Mapping[str, str] = own.settings.environment_variables()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **settings, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield IngestProcess(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=_SECONDS)


def catching_up(own: OwnFeed, **environment: str) -> Any:
    """``k2 catch-up`` of a feed."""
    return running(own, CATCH_UP, "catch-up", "--feed", own.feed.name, **environment)


def carrying_out(own: OwnFeed, request: dg.RunRequest, *, changed: str = "", **environment: str) -> Any:
    """One planned ingest run, whatever else is under way; exit code 0 when the run succeeded.

    Args:
        own: Whose run it is.
        request: The plan.
        changed: A program that changes K2 in the process before the run.
        environment: In addition to the settings.
    """
    plan = json.dumps({"key": request.partition_key, "config": request.run_config, "tags": dict(request.tags)})
    run = Path(__file__).with_name("planned_run.py").read_text("utf-8")
    return running(own, changed + run, own.feed.name, plan, **environment)


def log_lines(own: OwnFeed, message: str) -> list[dict[str, Any]]:
    """Lines of the home's log that say something."""
    log = own.settings.log_directory / LOG_FILE
    lines = map(json.loads, log.read_text("utf-8").splitlines()) if log.exists() else ()
    return [line for line in lines if line["message"] == message]
