"""How full the disks are that K2's data lies on."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from k2_market.ingest_alarms import DiskUse
from k2_resources.settings import Settings


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
