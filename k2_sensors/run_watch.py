"""The run watch: ends runs whose process is gone, so that what they carried becomes pending again.

Dagster's default launcher can't notice a run process that was killed: the run stays STARTED and holds its pool.
Every run of ours writes its process into its tags when its first step begins.
"""

import dagster as dg

from k2_assets.run_process import PROCESS_TAG, RunProcess

INTERVAL_SECONDS = 15


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed every run under way whose process is gone; their ids."""
    ended: list[str] = []
    running = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=running)):
        tag = run.tags.get(PROCESS_TAG)
        if tag is not None and RunProcess.parse(tag).is_gone():
            instance.report_run_failed(run, f"The run's process is gone: {tag}. It was killed or its machine stopped.")
            ended.append(run.run_id)
    return ended


@dg.sensor(
    name="run_watch_sensor",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process was killed, so that their ranges and days are planned again.",
)
def run_watch_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look once for dead runs."""
    ended = end_dead_runs(context.instance)
    return dg.SkipReason(f"ended {len(ended)} dead runs: {', '.join(ended)}" if ended else "no dead runs")
