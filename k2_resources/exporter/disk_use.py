"""Measures the disks that K2's data lies on."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from k2_market.alerting.alarm_facts import DiskUse
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source
from k2_resources.settings import Settings


class DiskFacts:
    """Reports the disks of some directories."""

    source = Source.DISKS

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)

    def report(self, figures: Figures) -> None:
        """Fill in the figures."""
        for disk in disks_of(self._paths):
            figures.gauge("k2_disk_used_ratio").set(disk.used, path=disk.path)
            figures.gauge("k2_disk_free_bytes").set(disk.free, path=disk.path)


def data_paths(settings: Settings) -> tuple[Path, ...]:
    """Give the directories of this machine that data lies in: K2's home, and the warehouse where it is one."""
    warehouse = settings.iceberg_warehouse
    return (settings.home, *([Path(warehouse.removeprefix("file://"))] if warehouse.startswith("file://") else []))


def disks_of(paths: Iterable[Path]) -> tuple[DiskUse, ...]:
    """Measure the disks of some directories, each disk once; a directory that is not there yet has none."""
    by_device = {os.stat(path).st_dev: path for path in reversed(list(paths)) if path.exists()}
    return tuple(_use(path) for path in by_device.values())


def _use(path: Path) -> DiskUse:
    _, used, free = shutil.disk_usage(path)
    # What is kept back for root counts as used, as `df` reckons it.
    return DiskUse(str(path), used / max(used + free, 1), free)
