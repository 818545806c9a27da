"""Runs the local stack's metrics exporter, which serves ``/metrics`` to Prometheus."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from k2_cli.stack.health_probes import http_answers
from k2_cli.stack.process_supervision import Command, Port


@dataclass(frozen=True)
class Exporter:
    """Serves K2's metrics; ``environment`` is what tells it where the rest is."""

    port: int
    environment: Mapping[str, str]

    name = "exporter"
    start_timeout_seconds = 60.0
    stop_timeout_seconds = 10.0

    @property
    def ports(self) -> tuple[Port, ...]:
        """The port of ``/metrics``."""
        return (Port(self.port, "K2_METRICS_PORT"),)

    @property
    def url(self) -> str:
        """Tell where Prometheus scrapes."""
        return f"http://127.0.0.1:{self.port}/metrics"

    def prepare(self) -> Command:
        """Say how to run it."""
        return Command([sys.executable, "-m", "k2_platform.metrics_exporter"], self.environment)

    def is_healthy(self, _since: datetime, /) -> bool:
        """Say whether it is there; a page of metrics may take longer than a probe should."""
        return http_answers(f"http://127.0.0.1:{self.port}/healthz")
