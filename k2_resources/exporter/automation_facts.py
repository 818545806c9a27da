"""Collects metrics of sensors, schedules and daemons: their last ticks and heartbeats."""

from collections.abc import Callable

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source


class AutomationFacts:
    """Reads the last tick of every sensor and schedule, and every daemon's last sign of life."""

    source = Source.AUTOMATION

    def __init__(self, instance: Callable[[], dg.DagsterInstance]) -> None:
        self._instance = instance

    def report(self, figures: Figures) -> None:
        """Fill in the figures; an instigator that never ticked has no last tick."""
        instance = self._instance()
        last_ticks: dict[str, float] = {}
        for state in instance.all_instigator_state():
            name = state.instigator_name
            running = float(state.status is not InstigatorStatus.STOPPED)
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            # An instigator that moved to another code location has several states; the one that ticked last counts.
            if name in last_ticks and (not ticks or ticks[0].timestamp <= last_ticks[name]):
                continue
            figures.gauge("k2_instigator_running").set(running, instigator=name)
            last_ticks[name] = ticks[0].timestamp if ticks else 0.0
            if ticks:
                figures.gauge("k2_instigator_last_tick_timestamp_seconds").set(ticks[0].timestamp, instigator=name)
                failed = float(ticks[0].status is TickStatus.FAILURE)
                figures.gauge("k2_instigator_last_tick_failed").set(failed, instigator=name)
        for daemon, heartbeat in instance.get_daemon_heartbeats().items():
            figures.gauge("k2_daemon_heartbeat_timestamp_seconds").set(heartbeat.timestamp, daemon=daemon.lower())
