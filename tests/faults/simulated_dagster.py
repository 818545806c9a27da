"""Dagster's run records in memory, as far as K2's sensor asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import SimpleNamespace
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG
from simulated_turns import Turns

UNDER_WAY = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED)


@dataclass
class Run:
    """A run, as Dagster keeps it."""

    job_name: str
    run_id: str
    run_config: dict[str, Any]
    tags: dict[str, str]
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.NOT_STARTED
    ended: float = 0.0

    @property
    def partition(self) -> str:
        return self.tags[PARTITION_NAME_TAG]


@dataclass
class SimulatedDagster:
    """Stands in for a ``DagsterInstance``; every question and every report is a step.

    Attributes:
        runs: All runs, oldest first.
        changes: How often a run was added or ended.
        reported: For each day the version that was last reported of it, as a text.
    """

    turns: Turns
    epoch: float
    changes: int = 0
    runs: list[Run] = field(default_factory=list)
    reported: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.epoch + self.turns.now

    def request(self, job_name: str, request: dg.RunRequest) -> None:
        """Accept a sensor's request; one whose run key has been seen is dropped, as Dagster does."""
        self.turns.step("requests a run")
        if any(run.tags.get(RUN_KEY_TAG) == request.run_key for run in self.runs):
            return
        tags = {**request.tags, RUN_KEY_TAG: str(request.run_key)}
        self.add(job_name, dict(request.run_config or {}), str(request.partition_key), tags)

    def add(self, job_name: str, run_config: dict[str, Any], partition: str, tags: Mapping[str, str]) -> Run:
        """A new run, waiting to be started."""
        run = Run(job_name, f"run-{len(self.runs) + 1}", run_config, {**tags, PARTITION_NAME_TAG: partition})
        self.runs.append(run)
        self.changes += 1
        return run

    def end(self, run: Run, status: dg.DagsterRunStatus) -> None:
        """Note how a run ended; the first word holds."""
        if run.status in UNDER_WAY:
            run.status, run.ended = status, self.seconds
            self.changes += 1

    def report(self, versions: Mapping[date, int]) -> None:
        """Report days as materialized, as a run does at its end."""
        self.reported |= {day.isoformat(): str(version) for day, version in versions.items()}

    def get_runs(self, filters: dg.RunsFilter, limit: int | None = None) -> list[Run]:
        self.turns.step("asks for runs")
        return self._found(filters)[:limit]

    def get_run_records(self, filters: dg.RunsFilter, limit: int | None = None) -> list[Any]:
        self.turns.step("asks for run records")
        return [SimpleNamespace(dagster_run=run, end_time=run.ended) for run in self._found(filters)[:limit]]

    @property
    def event_log_storage(self) -> "SimulatedDagster":
        return self

    def get_latest_tags_by_partition(
        self, asset: dg.AssetKey, event_type: dg.DagsterEventType, tag_keys: Sequence[str]
    ) -> dict[str, dict[str, str]]:
        self.turns.step("asks what was reported of days")
        return {day: dict.fromkeys(tag_keys, version) for day, version in self.reported.items()}

    def report_runless_asset_event(self, event: dg.AssetMaterialization) -> None:
        self.turns.step("reports a day for a run that did not")
        self.reported[str(event.partition)] = event.tags[DATA_VERSION_TAG]

    def _found(self, filters: dg.RunsFilter) -> list[Run]:
        return [run for run in reversed(self.runs) if _matches(run, filters)]


def _matches(run: Run, filters: dg.RunsFilter) -> bool:
    return (
        (not filters.job_name or run.job_name == filters.job_name)
        and (not filters.statuses or run.status in filters.statuses)
        and (not filters.run_ids or run.run_id in filters.run_ids)
        and all(run.tags.get(name) == value for name, value in filters.tags.items())
    )
