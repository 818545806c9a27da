"""A local stack that runs, as its user meets it: the ``k2`` command, Dagster's GraphQL, the log, the webhook."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed
from webhook import Webhook

from k2_cli.stack.local_stack import LocalStack
from k2_platform.catch_up import feeds_named, local_instance, wait_until_caught_up
from k2_resources.logs.structured_logging import LOG_FILE
from k2_resources.settings import Settings

PATIENCE_SECONDS = 240
"""For what takes half a minute on an idle machine."""

_Found = TypeVar("_Found")
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

_RUNS = """
query Runs {
  runsOrError { ... on Runs { results { runId jobName status tags { key value } endTime } } }
}
"""
_MATERIALIZATION = """
query Latest($key: AssetKeyInput!, $day: String!) {
  assetOrError(assetKey: $key) {
    ... on Asset {
      assetMaterializations(partitions: [$day], limit: 1) {
        runId
        metadataEntries {
          label
          ... on TextMetadataEntry { text }
          ... on IntMetadataEntry { intValue }
          ... on MarkdownMetadataEntry { mdStr }
        }
      }
    }
  }
}
"""
_LAST_TICK = """
query LastTick($sensor: SensorSelector!) {
  sensorOrError(sensorSelector: $sensor) {
    ... on Sensor { sensorState { ticks(limit: 1, statuses: [SUCCESS, SKIPPED]) { timestamp } } }
  }
}
"""


@dataclass(frozen=True)
class Run:
    """A run as Dagster's GraphQL tells of it; ``ended`` is Unix seconds."""

    run_id: str
    job: str
    status: str
    tags: Mapping[str, str]
    ended: float | None


@dataclass(frozen=True)
class RunningStack:
    """A local stack of the tests' own."""

    settings: Settings
    stack: LocalStack
    webhook: Webhook

    @property
    def ui(self) -> str:
        """Where Dagster's UI is."""
        return f"http://127.0.0.1:{self.settings.dagster_port}"

    def start(self, *names: str) -> None:
        """Start some services, or all."""
        (self.stack.only(names) if names else self.stack).up(report=lambda line: None)

    def k2(self, *arguments: str) -> str:
        """What a command of ours writes to its standard output."""
        command = [str(Path(sys.executable).with_name("k2")), *arguments]
        environment = os.environ | self.settings.environment_variables()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"k2 {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def wait_until_caught_up(self, feed: str) -> None:
        """Wait until the daemon has left nothing of a feed to do."""
        feeds = feeds_named(self.settings, [feed])
        with local_instance(self.settings) as instance:
            failed = wait_until_caught_up(self.settings, feeds, instance, Console(file=StringIO()))
        assert not failed, [run for run in self.runs() if run.status == "FAILURE"]

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data that a GraphQL query gives."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.ui}/graphql", body, {"Content-Type": "application/json"})
        with _open(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def runs(self) -> list[Run]:
        """All runs."""
        found = self.graphql(_RUNS)["runsOrError"]["results"]
        return [
            Run(
                each["runId"],
                each["jobName"],
                each["status"],
                {tag["key"]: tag["value"] for tag in each["tags"]},
                each["endTime"],
            )
            for each in found
        ]

    def latest_metadata(self, asset: Sequence[str], day: str) -> dict[str, Any]:
        """A day's latest materialization: its ``run_id`` and its metadata of texts, whole numbers and Markdown."""
        answer = self.graphql(_MATERIALIZATION, key={"path": list(asset)}, day=day)
        (latest,) = answer["assetOrError"]["assetMaterializations"]
        values = {
            entry["label"]: entry.get("text", entry.get("intValue", entry.get("mdStr")))
            for entry in latest["metadataEntries"]
        }
        return {"run_id": latest["runId"], **values}

    def wait_for_tick(self, sensor: str, after: float) -> None:
        """Wait until a sensor has ticked, begun after a moment (Unix seconds) and ended well."""
        selector = {"repositoryLocationName": "k2", "repositoryName": "__repository__", "sensorName": sensor}

        def has_ticked() -> bool:
            ticks = self.graphql(_LAST_TICK, sensor=selector)["sensorOrError"]["sensorState"]["ticks"]
            return bool(ticks) and ticks[0]["timestamp"] > after

        eventually(has_ticked, f"a tick of {sensor}")

    def log_lines(self) -> list[dict[str, Any]]:
        """All lines of K2's log."""
        text = (self.settings.log_directory / LOG_FILE).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def metrics_page(self) -> str:
        """What the exporter serves."""
        with _open(f"http://127.0.0.1:{self.settings.metrics_port}/metrics", timeout=60) as response:
            return str(response.read().decode())


def eventually(look: Callable[[], _Found], what: str) -> _Found:
    """What a look finds, once it finds something; fails after ``PATIENCE_SECONDS``."""

    def give_up(_state: object) -> _Found:
        raise AssertionError(f"still waiting after {PATIENCE_SECONDS} s for {what}")

    waiting = Retrying(
        retry=retry_if_result(lambda found: not found),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(PATIENCE_SECONDS),
        retry_error_callback=give_up,
    )
    return waiting(look)
